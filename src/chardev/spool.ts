/**
 * A bounded queue of bytes between a ring that must be drained and a reader that may be slow or away. Counts every byte
 * it has to drop. Knows neither ring nor reader.
 */

/** What gives way when the spool is full. */
export type OverflowPolicy = 'drop-oldest' | 'drop-newest';

export interface SpoolOptions {
  readonly limitBytes: number;
  readonly policy?: OverflowPolicy;
}

/** A thousand idle channels should cost next to nothing: storage grows on demand and is given back when empty. */
const FIRST_STORAGE_BYTES = 4096;
const KEPT_STORAGE_BYTES = 65536;

export class Spool {
  readonly limitBytes: number;
  readonly policy: OverflowPolicy;
  /** Circular; `#size` bytes from `#head` on. Its length is a power of two or the limit. */
  #storage: Buffer = Buffer.alloc(0);
  #head = 0;
  #size = 0;
  #dropped = 0;

  constructor({ limitBytes, policy = 'drop-oldest' }: SpoolOptions) {
    this.limitBytes = limitBytes;
    this.policy = policy;
  }

  get size(): number {
    return this.#size;
  }

  /** Bytes thrown away since the beginning. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Copies `bytes` behind what is there; returns how many bytes, old or new, had to be dropped for it. */
  append(bytes: Uint8Array): number {
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

  /** Copies `bytes` before what is there: they are older. Returns how many bytes had to be dropped. */
  prepend(bytes: Uint8Array): number {
    const rest = this.takeAll();
    return this.append(bytes) + this.append(rest);
  }

  /** The oldest bytes as one view, at most `maxBytes`; not all that is there when it wraps. Valid until the next change. */
  peek(maxBytes = this.#size): Uint8Array {
    const count = Math.min(this.#size, maxBytes, this.#storage.length - this.#head);
    return this.#storage.subarray(this.#head, this.#head + count);
  }

  /** Removes the `count` oldest bytes, after `peek`. */
  consume(count: number): void {
    this.#skip(count);
    if (this.#size > 0) return;
    this.#head = 0;
    if (this.#storage.length > KEPT_STORAGE_BYTES) this.#storage = Buffer.alloc(0);
  }

  /** Everything, as a copy; the spool is empty afterwards. Dropped bytes stay counted. */
  takeAll(): Buffer {
    const all = Buffer.allocUnsafe(this.#size);
    let at = 0;
    while (this.#size > 0) {
      const piece = this.peek();
      all.set(piece, at);
      at += piece.length;
      this.consume(piece.length);
    }
    return all;
  }

  /** Counts bytes that were dropped before this spool existed: those of the process before a restart. */
  addDropped(count: number): void {
    this.#dropped += count;
  }

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
