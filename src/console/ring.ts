/**
 * The console ring, from the backend's side: 2048 bytes from the guest, 1024 bytes to it, four free-running indices.
 * Trusts nothing in the page: our own indices are kept here and only published, each index of the guest is loaded once
 * and checked. Source: xen:xen/include/public/io/console.h.
 */
import { Cuts } from './cuts.js';
import { indexDistance, loadIndex, storeIndex, watchIndex } from './indices.js';

export const PAGE_BYTES = 4096;
/** Host to guest. */
export const IN_BYTES = 1024;
/** Guest to host. */
export const OUT_BYTES = 2048;

export const OFFSET = {
  in: 0,
  out: 1024,
  inCons: 3072,
  inProd: 3076,
  outCons: 3080,
  outProd: 3084,
  connection: 3088,
} as const;

/** Index of each u32 in a view of the page as words. */
export const WORD = { inCons: 768, inProd: 769, outCons: 770, outProd: 771 } as const;

/** Values of the connection byte (Xen 4.21 and newer; older guests leave it 0 and never look). */
export const CONNECTION = { connected: 0, disconnected: 1 } as const;

export interface RingPage {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
}

/** Of what goes into rings, in two parts where it goes over the end: for all rings, because one is filled at a time. */
const inParts = [new Cuts(IN_BYTES), new Cuts(IN_BYTES)] as const;

/** Where a backend before us stopped, by its own account. */
export interface RingPosition {
  readonly outConsumed: number;
  readonly inProduced: number;
}

export class BackendRing {
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  /** Signed, as in the page. */
  #outCons: number;
  #inProd: number;
  #illegal = 0;
  #fullOut: { readonly start: number; readonly first: Uint8Array; readonly rest: Uint8Array } | undefined;

  /** Takes up where the page says the last backend stopped: that is enough to go on without a gap (native-on-xen). */
  constructor(page: RingPage) {
    this.#bytes = page.bytes;
    this.#words = page.words;
    this.#outCons = loadIndex(this.#words, WORD.outCons);
    this.#inProd = loadIndex(this.#words, WORD.inProd);
  }

  /** How often the guest's index was one that no correct guest can publish. */
  get illegalIndices(): number {
    return this.#illegal;
  }

  /** Our free-running counter of bytes taken from the guest. */
  get outConsumed(): number {
    return this.#outCons >>> 0;
  }

  get inProduced(): number {
    return this.#inProd >>> 0;
  }

  isAt({ outConsumed, inProduced }: RingPosition): boolean {
    return this.#outCons === (outConsumed | 0) && this.#inProd === (inProduced | 0);
  }

  /** True when the guest has taken everything that was written to it. An illegal index is no such proof. */
  inConsumed(): boolean {
    return loadIndex(this.#words, WORD.inCons) === this.#inProd;
  }

  /** Bytes for the guest that it has not taken; all that fit while its index is illegal. */
  inPending(): number {
    return this.#unread(loadIndex(this.#words, WORD.inCons));
  }

  /** As `inPending`, for who looks again and again until it changes. */
  watchIn(): number {
    return this.#unread(watchIndex(this.#words, WORD.inCons));
  }

  /** Tells a guest that knows the connection byte that somebody serves the ring; a fresh page says so by itself. */
  announce(): void {
    if (this.#bytes[OFFSET.connection] !== CONNECTION.connected) this.#bytes[OFFSET.connection] = CONNECTION.connected;
  }

  /**
   * Copies what the guest has written into `target` at `at`, as much as fits, and returns the count. The guest does not
   * get the space back before `publishConsumed`: hand the bytes on first, so that a crash can repeat but not lose them.
   * `pending`: what `outPending` said, so that the guest's index need not be loaded again.
   */
  peekOut(target: Uint8Array, at: number, pending = this.outPending()): number {
    const count = Math.min(pending, target.length - at);
    if (count === 0) return 0;
    const start = this.#outCons & (OUT_BYTES - 1);
    const first = Math.min(count, OUT_BYTES - start);
    if (count === OUT_BYTES) return this.#copyFullOut(start, target, at);
    const base = OFFSET.out + start;
    target.set(this.#bytes.subarray(base, base + first), at);
    if (first < count) target.set(this.#bytes.subarray(OFFSET.out, OFFSET.out + count - first), at + first);
    return count;
  }

  /** Bytes that the guest has written and that are still to be taken; an illegal index offers nothing. */
  outPending(): number {
    return this.#legalOut(loadIndex(this.#words, WORD.outProd));
  }

  /** As `outPending`, for who looks again and again until it changes. */
  watchOut(): number {
    return this.#legalOut(watchIndex(this.#words, WORD.outProd));
  }

  outIsEmpty(): boolean {
    return this.outPending() === 0;
  }

  /** Gives `count` bytes of space back to the guest; the caller notifies. `count` is what `peekOut` returned. */
  publishConsumed(count: number): void {
    this.#outCons = (this.#outCons + count) | 0;
    storeIndex(this.#words, WORD.outCons, this.#outCons);
  }

  /** Room toward the guest; 0 while the guest's index is illegal. */
  inSpace(): number {
    const used = indexDistance(this.#inProd, loadIndex(this.#words, WORD.inCons));
    if (used > IN_BYTES) {
      this.#illegal++;
      return 0;
    }
    return IN_BYTES - used;
  }

  /** Writes as much of `source` from `from` on as there is room, publishes it and returns the count; the caller notifies. */
  writeIn(source: Uint8Array, from = 0): number {
    const count = Math.min(this.inSpace(), source.length - from);
    if (count <= 0) return 0;
    const start = this.#inProd & (IN_BYTES - 1);
    const first = Math.min(count, IN_BYTES - start);
    const full = count === IN_BYTES;
    const whole = first === source.length;
    this.#bytes.set(whole ? source : inParts[0].cut(source, from, first, full), OFFSET.in + start);
    if (first < count) this.#bytes.set(inParts[1].cut(source, from + first, count - first, full), OFFSET.in);
    this.#inProd = (this.#inProd + count) | 0;
    storeIndex(this.#words, WORD.inProd, this.#inProd);
    return count;
  }

  /** In full flow every piece begins at the same place: its two views are made once. */
  #copyFullOut(start: number, target: Uint8Array, at: number): number {
    if (this.#fullOut?.start !== start) {
      const base = OFFSET.out + start;
      const end = OFFSET.out + OUT_BYTES;
      this.#fullOut = { start, first: this.#bytes.subarray(base, end), rest: this.#bytes.subarray(OFFSET.out, base) };
    }
    target.set(this.#fullOut.first, at);
    if (start > 0) target.set(this.#fullOut.rest, at + OUT_BYTES - start);
    return OUT_BYTES;
  }

  #unread(consumer: number): number {
    return Math.min(indexDistance(this.#inProd, consumer), IN_BYTES);
  }

  #legalOut(producer: number): number {
    const used = indexDistance(producer, this.#outCons);
    if (used <= OUT_BYTES) return used;
    this.#illegal++;
    return 0;
  }
}
