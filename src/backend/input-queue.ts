/**
 * Bytes of the client on their way to the guest, in the pieces in which they came. Bounded by back-pressure: its owner
 * pauses the client as soon as something stays here.
 */

/** What a ring is to this queue. */
export interface InputTaker {
  /** Takes what it has room for of `bytes` from `from` on, and says how much that was. */
  writeIn(bytes: Uint8Array, from: number): number;
}

export class InputQueue {
  #pieces: Uint8Array[] = [];
  /** Bytes of the first piece that are gone already. */
  #from = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** `bytes` may be somebody else's until `own` is called. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#pieces.push(bytes);
    this.#size += bytes.length;
  }

  /** Copies what is left of the bytes that were pushed last: their owner wants its buffer back. */
  own(): void {
    const last = this.#pieces.pop();
    if (last === undefined) return;
    const from = this.#pieces.length === 0 ? this.#from : 0;
    if (from > 0) this.#from = 0;
    this.#pieces.push(Buffer.from(last.subarray(from)));
  }

  /** Offers bytes to `taker` until it takes less than all; returns how many it took. */
  drainTo(taker: InputTaker): number {
    let taken = 0;
    for (let piece = this.#pieces[0]; piece !== undefined; piece = this.#pieces[0]) {
      const count = taker.writeIn(piece, this.#from);
      taken += count;
      this.#size -= count;
      this.#from += count;
      if (this.#from < piece.length) break;
      this.#pieces.shift();
      this.#from = 0;
    }
    return taken;
  }

  /** Everything, as a copy; the queue is empty afterwards. */
  takeAll(): Buffer {
    const [first, ...others] = this.#pieces;
    const all = first === undefined ? Buffer.alloc(0) : Buffer.concat([first.subarray(this.#from), ...others]);
    this.#pieces = [];
    this.#from = 0;
    this.#size = 0;
    return all;
  }
}
