/**
 * Byte streams in which every piece tells where it belongs: bytes are computed from a key and their offset, so that who
 * receives them finds its place again after a hole and says exactly what is missing and what came twice.
 */

/** So many bytes in a row are at one place only, for all practical purposes. */
const WINDOW_BYTES = 12;
/** What may stand between two holes and be too short to be found by itself. */
const MAX_FRAGMENT_BYTES = 4096;
/** Crumbs of several holes that touch; longer ones would fit anywhere by chance. */
const MAX_CRUMBS_BYTES = 64;
/** A repeat goes back no further than this; what does is no repeat but a fault. */
const MAX_STEP_BACK_BYTES = 256 * 1024;
/** Most holes are small: look nearby first. */
const NEAR_BYTES = 128 * 1024;

export class PositionalStream {
  readonly #key: number;

  constructor(key: number) {
    this.#key = key >>> 0;
  }

  bytes(offset: number, length: number): Buffer {
    const first = Math.floor(offset / 4);
    const last = Math.floor((offset + length + 3) / 4);
    const words = new Uint32Array(last - first);
    for (let at = 0; at < words.length; at++) words[at] = this.#word(first + at);
    const skip = offset - 4 * first;
    return Buffer.from(words.buffer, skip, length);
  }

  #word(index: number): number {
    let word = Math.imul(index ^ this.#key, 0x9e3779b1);
    word = Math.imul(word ^ (word >>> 15), 0x85ebca77) + this.#key;
    word = Math.imul(word ^ (word >>> 13), 0xc2b2ae3d);
    return (word ^ (word >>> 16)) >>> 0;
  }
}

export interface Interval {
  readonly from: number;
  readonly to: number;
}

/** Receives a stream with holes and repeats and keeps account of them. Throws when bytes belong nowhere. */
export class StreamChecker {
  readonly label: string;
  readonly #stream: PositionalStream;
  readonly #produced: () => number;
  #next = 0;
  #end = 0;
  #received = 0;
  #repeated = 0;
  #missing = 0;
  #unplaced: Buffer = Buffer.alloc(0);
  readonly holes: Interval[] = [];

  /** `produced`: how much of the stream exists by now. */
  constructor(label: string, stream: PositionalStream, produced: () => number) {
    this.label = label;
    this.#stream = stream;
    this.#produced = produced;
  }

  /** All bytes that came, repeats included. */
  get received(): number {
    return this.#received;
  }

  get repeated(): number {
    return this.#repeated;
  }

  /** Bytes before the furthest one received that never came. */
  get missing(): number {
    return this.#missing;
  }

  /** One past the furthest byte received. */
  get end(): number {
    return this.#end;
  }

  /** Bytes whose place is not known yet, because too few came since. */
  get unplaced(): number {
    return this.#unplaced.length;
  }

  push(bytes: Uint8Array): void {
    this.#received += bytes.length;
    let rest = this.#unplaced.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#unplaced, bytes]);
    this.#unplaced = Buffer.alloc(0);
    while (rest.length > 0) {
      const matching = this.#matching(rest);
      if (matching > 0) this.#run(this.#next, matching);
      rest = rest.subarray(matching);
      if (rest.length === 0) return;
      const placed = this.#place(rest);
      if (placed === undefined) {
        this.#unplaced = Buffer.from(rest);
        return;
      }
      rest = rest.subarray(placed);
    }
  }

  #matching(bytes: Buffer): number {
    const expected = this.#stream.bytes(this.#next, bytes.length);
    if (expected.equals(bytes)) return bytes.length;
    let at = 0;
    while (bytes[at] === expected[at]) at++;
    return at;
  }

  /** Finds where `bytes` go on and returns how many of them are accounted for; undefined: more are needed to tell. */
  #place(bytes: Buffer): number | undefined {
    for (const furthest of [this.#next + NEAR_BYTES, Number.POSITIVE_INFINITY]) {
      const from = Math.max(0, this.#next - MAX_STEP_BACK_BYTES);
      const to = Math.min(furthest, this.#produced());
      const candidates = this.#stream.bytes(from, Math.max(0, to - from));
      for (let skip = 0; skip + WINDOW_BYTES <= bytes.length && skip <= MAX_FRAGMENT_BYTES; skip++) {
        const found = candidates.indexOf(bytes.subarray(skip, skip + WINDOW_BYTES));
        if (found === -1) continue;
        if (skip > 0 && !this.#placeFragment(bytes.subarray(0, skip), from + found)) continue;
        this.#next = from + found;
        return skip;
      }
    }
    if (bytes.length > MAX_FRAGMENT_BYTES + WINDOW_BYTES) {
      const head = bytes.subarray(0, 32).toString('hex');
      throw new Error(`${this.label}: after offset ${this.#next} came bytes that belong nowhere: ${head}...`);
    }
    return undefined;
  }

  /** Bytes between two holes: somewhere before `limit`, where exactly is all the same. */
  #placeFragment(fragment: Buffer, limit: number): boolean {
    const between = this.#stream.bytes(this.#next, Math.max(0, limit - this.#next));
    const found = between.indexOf(fragment);
    if (found === -1) return fragment.length <= MAX_CRUMBS_BYTES && this.#placeCrumbs(fragment, between);
    this.#run(this.#next + found, fragment.length);
    return true;
  }

  #placeCrumbs(fragment: Buffer, between: Buffer): boolean {
    const base = this.#next;
    const places: number[] = [];
    for (const byte of fragment) {
      const found = between.indexOf(byte, (places.at(-1) ?? -1) + 1);
      if (found === -1) return false;
      places.push(found);
    }
    for (const place of places) this.#run(base + place, 1);
    return true;
  }

  #run(from: number, length: number): void {
    const to = from + length;
    if (from > this.#end) {
      this.holes.push({ from: this.#end, to: from });
      this.#missing += from - this.#end;
    }
    this.#repeated += Math.max(0, Math.min(to, this.#end) - from);
    this.#end = Math.max(this.#end, to);
    this.#next = to;
  }
}
