/**
 * The console ring from the guest's side, as Linux's hvc_xen uses it: all four indices are read from the page, nothing
 * is remembered. Knows no tty. Source: linux:drivers/tty/hvc/hvc_xen.c (__write_console, domU_read_console).
 */
import { Cuts } from '../console/cuts.js';
import { indexDistance, loadIndex, storeIndex } from '../console/indices.js';
import { IN_BYTES, OFFSET, OUT_BYTES, WORD } from '../console/ring.js';
import type { GuestPage } from '../hypervisor/guest-page.js';

/** What Linux calls -EINVAL: the backend published an index that no correct backend can publish. */
export const ILLEGAL = 'illegal-indices';

/** As in the backend. */
const outParts = [new Cuts(OUT_BYTES), new Cuts(OUT_BYTES)] as const;
const inParts = [new Cuts(IN_BYTES), new Cuts(IN_BYTES)] as const;

export class GuestRing {
  readonly #page: GuestPage;
  #illegal = 0;

  constructor(page: GuestPage) {
    this.#page = page;
  }

  get illegalIndices(): number {
    return this.#illegal;
  }

  /** Bytes the backend has not taken yet. */
  get outUsed(): number {
    const { words } = this.#page;
    return indexDistance(loadIndex(words, WORD.outProd), loadIndex(words, WORD.outCons));
  }

  /** Copies as much of `source` from `from` on as there is room for; the caller notifies. */
  writeOut(source: Uint8Array, from: number): number | typeof ILLEGAL {
    const { bytes, words } = this.#page;
    const producer = loadIndex(words, WORD.outProd);
    const used = indexDistance(producer, loadIndex(words, WORD.outCons));
    if (used > OUT_BYTES) return this.#screwed();
    const count = Math.min(OUT_BYTES - used, source.length - from);
    if (count === 0) return 0;
    const start = producer & (OUT_BYTES - 1);
    const first = Math.min(count, OUT_BYTES - start);
    const full = count === OUT_BYTES;
    bytes.set(outParts[0].cut(source, from, first, full), OFFSET.out + start);
    if (first < count) bytes.set(outParts[1].cut(source, from + first, count - first, full), OFFSET.out);
    storeIndex(words, WORD.outProd, (producer + count) | 0);
    return count;
  }

  /**
   * Copies what the backend has written into `target` at `at`, as much as fits, and returns the count; the room is given
   * back by `consumeIn`.
   */
  peekIn(target: Uint8Array, at = 0): number | typeof ILLEGAL {
    const { bytes, words } = this.#page;
    const consumer = loadIndex(words, WORD.inCons);
    const used = indexDistance(loadIndex(words, WORD.inProd), consumer);
    if (used > IN_BYTES) return this.#screwed();
    const count = Math.min(used, target.length - at);
    if (count === 0) return 0;
    const start = consumer & (IN_BYTES - 1);
    const first = Math.min(count, IN_BYTES - start);
    const full = count === IN_BYTES;
    target.set(inParts[0].cut(bytes, OFFSET.in + start, first, full), at);
    if (first < count) target.set(inParts[1].cut(bytes, OFFSET.in, count - first, full), at + first);
    return count;
  }

  /** Gives room back to the backend; the caller notifies. */
  consumeIn(count: number): void {
    const { words } = this.#page;
    storeIndex(words, WORD.inCons, (loadIndex(words, WORD.inCons) + count) | 0);
  }

  #screwed(): typeof ILLEGAL {
    this.#illegal++;
    return ILLEGAL;
  }
}
