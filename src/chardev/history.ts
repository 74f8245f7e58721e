/**
 * The guest's output since the session began, as far as it is kept: the first part and the most recent part, by offset.
 * For those who come late or come back. Knows no clients.
 */
import { ChannelError } from '../base/errors.js';
import { alignedBytes } from '../sys/memory.js';

export interface HistoryOptions {
  /** How much of the beginning is kept for ever: what a guest says first is what is looked for later. */
  readonly firstBytes?: number;
  readonly recentBytes?: number;
  /** Where the history begins: bytes that went by before it existed, as after a daemon's restart. */
  readonly startOffset?: number;
}

/** `[start, firstEnd)` and `[recentStart, total)`; the two meet as long as nothing is gone. */
export interface KeptRanges {
  readonly start: number;
  readonly firstEnd: number;
  readonly recentStart: number;
  readonly total: number;
}

export interface HistoryPiece {
  /** A copy. Empty at the end of the output, and only there. */
  readonly bytes: Buffer;
  readonly offset: number;
  /** Where to go on. */
  readonly nextOffset: number;
}

export const DEFAULT_FIRST_BYTES = 64 * 1024;
export const DEFAULT_RECENT_BYTES = 1024 * 1024;
/** A thousand idle channels should cost next to nothing. */
const FIRST_STORAGE_BYTES = 256;
const NOTHING = Buffer.alloc(0);

export class History {
  readonly #start: number;
  readonly #firstLimit: number;
  readonly #recentLimit: number;
  #first: Uint8Array = NOTHING;
  #firstSize = 0;
  /** Circular once it has its full length; before that it grows, and nothing is gone. */
  #recent: Uint8Array = NOTHING;
  #total: number;

  constructor(options: HistoryOptions = {}) {
    const { firstBytes = DEFAULT_FIRST_BYTES, recentBytes = DEFAULT_RECENT_BYTES, startOffset = 0 } = options;
    this.#firstLimit = firstBytes;
    this.#recentLimit = Math.max(1, recentBytes);
    this.#start = startOffset;
    this.#total = startOffset;
  }

  /** The offset after the last byte. */
  get total(): number {
    return this.#total;
  }

  get kept(): KeptRanges {
    const firstEnd = this.#start + this.#firstSize;
    const recentStart = Math.max(firstEnd, this.#total - this.#recentLimit);
    return { start: this.#start, firstEnd, recentStart, total: this.#total };
  }

  /** What this costs now. */
  get storageBytes(): number {
    return this.#first.length + this.#recent.length;
  }

  append(bytes: Uint8Array): void {
    const toFirst = Math.min(bytes.length, this.#firstLimit - this.#firstSize);
    if (toFirst > 0) this.#appendFirst(bytes.subarray(0, toFirst));
    if (toFirst < bytes.length) this.#appendRecent(toFirst === 0 ? bytes : bytes.subarray(toFirst));
  }

  /**
   * At most `maxBytes` from `sinceOffset` on; fewer at the end of a part. Throws ChannelError `range-gone` for an offset
   * that is not kept or that is not reached yet: kept are the offsets from `start` to `first` and from `last` to `total`.
   */
  read(sinceOffset: number, maxBytes: number): HistoryPiece {
    const { start, firstEnd, recentStart, total } = this.kept;
    const inFirst = sinceOffset >= start && sinceOffset < firstEnd;
    const inRecent = sinceOffset >= recentStart && sinceOffset <= total;
    if (!Number.isSafeInteger(sinceOffset) || !(inFirst || inRecent)) throw this.#gone(sinceOffset);
    const end = Math.min(sinceOffset + maxBytes, inFirst ? firstEnd : total);
    const bytes = inFirst
      ? Buffer.from(this.#first.subarray(sinceOffset - start, end - start))
      : this.#copyRecent(sinceOffset, end);
    return { bytes, offset: sinceOffset, nextOffset: end };
  }

  /** From here on at most `maxBytes` are kept without a gap: for "the last so many bytes". */
  recentOffset(maxBytes: number): number {
    const { start, firstEnd, recentStart, total } = this.kept;
    return Math.max(recentStart === firstEnd ? start : recentStart, total - maxBytes);
  }

  #gone(requested: number): ChannelError {
    const { start, firstEnd: first, recentStart: last, total } = this.kept;
    const what = requested > total ? 'has not been reached yet' : 'is not kept any more';
    const kept = first === last ? `${start} to ${total}` : `${start} to ${first} and ${last} to ${total}`;
    return new ChannelError('range-gone', `offset ${requested} ${what}: offsets ${kept} are`, {
      requested,
      start,
      first,
      last,
      total,
    });
  }

  #appendFirst(bytes: Uint8Array): void {
    this.#first = grown(this.#first, this.#firstSize + bytes.length, this.#firstLimit);
    this.#first.set(bytes, this.#firstSize);
    this.#firstSize += bytes.length;
    this.#total += bytes.length;
  }

  #appendRecent(bytes: Uint8Array): void {
    const stored = this.#total - this.#start - this.#firstSize;
    const wanted = Math.min(stored + bytes.length, this.#recentLimit);
    // Growing never meets a ring that has wrapped: it wraps only at its full length.
    this.#recent = grown(this.#recent, wanted, this.#recentLimit);
    const skipped = Math.max(0, bytes.length - this.#recentLimit);
    const from = (stored + skipped) % this.#recentLimit;
    const piece = skipped === 0 ? bytes : bytes.subarray(skipped);
    const untilWrap = this.#recentLimit - from;
    if (piece.length <= untilWrap) this.#recent.set(piece, from);
    else {
      this.#recent.set(piece.subarray(0, untilWrap), from);
      this.#recent.set(piece.subarray(untilWrap), 0);
    }
    this.#total += bytes.length;
  }

  #copyRecent(from: number, to: number): Buffer {
    const copy = Buffer.allocUnsafe(to - from);
    const at = (from - this.#start - this.#firstSize) % this.#recentLimit;
    const untilWrap = Math.min(copy.length, this.#recentLimit - at);
    copy.set(this.#recent.subarray(at, at + untilWrap));
    copy.set(this.#recent.subarray(0, copy.length - untilWrap), untilWrap);
    return copy;
  }
}

function grown(storage: Uint8Array, neededBytes: number, limitBytes: number): Uint8Array {
  if (neededBytes <= storage.length) return storage;
  let length = Math.max(FIRST_STORAGE_BYTES, storage.length);
  while (length < neededBytes) length *= 2;
  const larger = alignedBytes(Math.min(length, limitBytes));
  larger.set(storage);
  return larger;
}
