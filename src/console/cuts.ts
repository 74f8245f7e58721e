/**
 * Parts of a buffer that is filled and emptied again and again. In full flow a ring takes the same parts of it each time,
 * and making a view of a part costs more than copying its bytes. Remembers the last series of equal parts, no more.
 */
export class Cuts {
  readonly #ringBytes: number;
  #source: Uint8Array | undefined;
  #length = 0;
  #phase = 0;
  #views: (Uint8Array | undefined)[] = [];

  /** For parts of pieces that fill a ring of this size, a power of two. */
  constructor(ringBytes: number) {
    this.#ringBytes = ringBytes;
  }

  /** A view of `length` bytes of `source` from `from` on, which belong to a piece that `fills` a ring or does not. */
  cut(source: Uint8Array, from: number, length: number, fills: boolean): Uint8Array {
    if (!fills) return source.subarray(from, from + length);
    const phase = from & (this.#ringBytes - 1);
    if (source !== this.#source || length !== this.#length || phase !== this.#phase) {
      this.#source = source;
      this.#length = length;
      this.#phase = phase;
      this.#views = [];
    }
    const index = (from - phase) / this.#ringBytes;
    let view = this.#views[index];
    if (view === undefined) {
      view = source.subarray(from, from + length);
      this.#views[index] = view;
    }
    return view;
  }
}
