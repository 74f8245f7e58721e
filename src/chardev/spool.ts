/**
 * A bounded queue of bytes between a ring that must be drained and a reader that may be slow or away. Counts every byte
 * it has to drop. Knows neither ring nor reader.
 */

import type { SourceMark } from './spool-header.js';

/** What gives way when the spool is full. */
export type OverflowPolicy = 'drop-oldest' | 'drop-newest';

/** What a session needs of a spool: this one, or one that survives the process (file-spool.ts). */
export interface SpoolQueue {
  readonly limitBytes: number;
  /** Where the bytes are now. */
  readonly storage: 'memory' | 'file';
  readonly size: number;
  /** Bytes thrown away since the beginning. */
  readonly dropped: number;
  /** Copies `bytes` behind what is there; returns how many bytes, old or new, had to be dropped for it. */
  append(bytes: Uint8Array): number;
  /** Copies `bytes` before what is there: they are older. Returns how many bytes had to be dropped. */
  prepend(bytes: Uint8Array): number;
  /**
   * Room for `count` bytes right behind the newest, to be written into and then committed, piece by piece if wanted;
   * undefined where there is none in one piece that outlives the process. Valid until any other change.
   */
  reserve(count: number): Uint8Array | undefined;
  commit(count: number): void;
  /** Counts bytes that the reader got beside the queue, which was empty: they came, and nothing is to be kept of them. */
  pass(count: number): void;
  /** The oldest bytes as one view, at most `maxBytes`; not all that is there when it wraps. Valid until the next change. */
  peek(maxBytes?: number): Uint8Array;
  /** Removes the `count` oldest bytes, after `peek`. For `keptBehind` see `keepBehind`. */
  consume(count: number, keptBehind?: number): void;
  /** Of all consumed bytes the last `count` would be lost with this process: the next one is to find them. */
  keepBehind(count: number): void;
  copyAll(): Buffer;
  /** From now on holds `rest`, which ends as the queue does: the part that nobody took, and what came back before it. */
  keepLast(rest: Uint8Array): void;
  /** All bytes that ever came, dropped ones included. */
  readonly received: number;
  /** Everything that must be carried over to the next process. Not to be used afterwards. */
  leave(): Buffer;
  /** What came and what was dropped before this queue existed: in the process before a restart. */
  setTotals(totals: { readonly receivedBytes: number; readonly droppedBytes: number }): void;
  /** The source (a ring) stands at this position now: all bytes up to it are in here, or were. */
  setSource(mark: SourceMark): void;
  /** Gives back memory that a burst has left behind. */
  tidy(): void;
  /** The channel is no more: the next process is not to find the bytes. Here they stay. */
  forget(): void;
  /** What the end of the process does to it. Not to be used afterwards. */
  abandon(): void;
}

export interface SpoolOptions {
  readonly limitBytes: number;
  readonly policy?: OverflowPolicy;
}

/** A thousand idle channels should cost next to nothing: storage grows on demand and is given back when empty. */
const FIRST_STORAGE_BYTES = 4096;
const KEPT_STORAGE_BYTES = 65536;
const NOTHING = Buffer.alloc(0);

export class Spool implements SpoolQueue {
  readonly storage = 'memory';
  readonly limitBytes: number;
  readonly policy: OverflowPolicy;
  /** Circular; `#size` bytes from `#head` on. Its length is a power of two or the limit. */
  #storage: Buffer = NOTHING;
  #head = 0;
  #size = 0;
  #dropped = 0;
  #received = 0;

  constructor({ limitBytes, policy = 'drop-oldest' }: SpoolOptions) {
    this.limitBytes = limitBytes;
    this.policy = policy;
  }

  get size(): number {
    return this.#size;
  }

  get dropped(): number {
    return this.#dropped;
  }

  append(bytes: Uint8Array): number {
    this.#received += bytes.length;
    const excess = Math.max(0, this.#size + bytes.length - this.limitBytes);
    this.#dropped += excess;
    if (this.policy === 'drop-newest') {
      this.#put(bytes.subarray(0, bytes.length - excess));
      return excess;
    }
    const oldest = Math.min(excess, this.#size);
    this.#skip(oldest);
    this.#put(bytes.subarray(excess - oldest));
    return excess;
  }

  prepend(bytes: Uint8Array): number {
    const rest = this.takeAll();
    const received = this.#received;
    const dropped = this.append(bytes) + this.append(rest);
    this.#received = received;
    return dropped;
  }

  reserve(): undefined {}

  commit(): void {}

  /** Here only what was queued is counted: nobody asks for more. */
  pass(): void {}

  peek(maxBytes = this.#size): Uint8Array {
    const count = Math.min(this.#size, maxBytes, this.#storage.length - this.#head);
    return this.#storage.subarray(this.#head, this.#head + count);
  }

  consume(count: number): void {
    this.#skip(count);
    if (this.#size > 0) return;
    this.#head = 0;
    if (this.#storage.length > KEPT_STORAGE_BYTES) this.#storage = NOTHING;
  }

  /** In memory nothing outlives the process. */
  keepBehind(): void {}

  copyAll(): Buffer {
    const all = Buffer.allocUnsafe(this.#size);
    const first = this.peek();
    all.set(first);
    all.set(this.#storage.subarray(0, all.length - first.length), first.length);
    return all;
  }

  /** Everything, as a copy; the spool is empty afterwards. Dropped bytes stay counted. */
  takeAll(): Buffer {
    const all = this.copyAll();
    this.consume(all.length);
    return all;
  }

  keepLast(rest: Uint8Array): void {
    if (rest.length <= this.#size) this.consume(this.#size - rest.length);
    else this.prepend(rest.subarray(0, rest.length - this.#size));
  }

  leave(): Buffer {
    return this.takeAll();
  }

  setTotals({ receivedBytes, droppedBytes }: { readonly receivedBytes: number; readonly droppedBytes: number }): void {
    this.#received = receivedBytes;
    this.#dropped = droppedBytes;
  }

  get received(): number {
    return this.#received;
  }

  setSource(): void {}
  tidy(): void {}
  forget(): void {}
  abandon(): void {}

  #skip(count: number): void {
    if (count === 0) return;
    this.#head = (this.#head + count) % this.#storage.length;
    this.#size -= count;
  }

  /** There is room: the caller has seen to it. */
  #put(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.#size + bytes.length > this.#storage.length) this.#grow(this.#size + bytes.length);
    const tail = (this.#head + this.#size) % this.#storage.length;
    const first = Math.min(bytes.length, this.#storage.length - tail);
    this.#storage.set(bytes.subarray(0, first), tail);
    if (first < bytes.length) this.#storage.set(bytes.subarray(first), 0);
    this.#size += bytes.length;
  }

  #grow(neededBytes: number): void {
    let length = Math.max(FIRST_STORAGE_BYTES, this.#storage.length);
    while (length < neededBytes) length *= 2;
    const larger = Buffer.allocUnsafeSlow(Math.min(length, this.limitBytes));
    const end = Math.min(this.#size, this.#storage.length - this.#head);
    this.#storage.copy(larger, 0, this.#head, this.#head + end);
    this.#storage.copy(larger, end, 0, this.#size - end);
    this.#storage = larger;
    this.#head = 0;
  }
}
