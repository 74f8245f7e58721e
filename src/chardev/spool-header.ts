/**
 * The first page of a spool's file: what is in it, who it belongs to, and how far the queue had got. Pure bytes; decides
 * whether a file found after a crash may be believed.
 *
 * Each counter is one aligned 8-byte number, so that one store changes it whole, and the order of the stores is the
 * order of the program. At any point between two stores the file says something true.
 */
import { createHash } from 'node:crypto';

export const HEADER_BYTES = 4096;
/** `XCSPOOL1`; the last character is the version. */
const MAGIC = Buffer.from('XCSPOOL1', 'latin1');
const KEY_AT = 64;
const KEY_BYTES = 32;

/** Index of each number in a view of the page as doubles. */
export const FIELD = {
  /** The data area is circular over this many bytes. */
  modulus: 1,
  /** Offsets count bytes since the channel began. The byte with offset `o` stands at `(o - base) % modulus`. */
  stored: 16,
  start: 17,
  base: 18,
  /** Of all that was ever stored: what gave way before anybody got it. */
  droppedOldest: 19,
  /** What was never stored, because the queue was full. */
  droppedNewest: 20,
  /** What came beside the queue or before this file was begun, and what of that was dropped. */
  receivedBefore: 21,
  droppedBefore: 22,
  /** The source (a ring) was at `sourcePosition`, modulo 2^32, when `sourceReceived` bytes had come. */
  sourceValid: 24,
  sourceFirst: 25,
  sourceSecond: 26,
  sourcePosition: 27,
  sourceReceived: 28,
} as const;

/** Where bytes come from, in its own words: two numbers that tell it from others, and its free-running 32-bit counter. */
export interface SourceMark {
  readonly id: readonly [number, number];
  readonly position: number;
}

export interface SpoolCounters {
  readonly modulus: number;
  readonly stored: number;
  readonly start: number;
  readonly base: number;
  readonly droppedOldest: number;
  readonly droppedNewest: number;
  readonly receivedBefore: number;
  readonly droppedBefore: number;
  readonly source: SourceMark | undefined;
}

export const keyHash = (key: string): Buffer => createHash('sha256').update(key).digest();

/** A header for an empty queue; the counters are the caller's. */
export function writeIdentity(page: Uint8Array, key: string, modulus: number): void {
  page.fill(0, 0, HEADER_BYTES);
  page.set(MAGIC, 0);
  page.set(keyHash(key), KEY_AT);
  doubles(page)[FIELD.modulus] = modulus;
}

export function doubles(page: Uint8Array): Float64Array {
  return new Float64Array(page.buffer, page.byteOffset, HEADER_BYTES / 8);
}

/** What the header of a file of `fileBytes` says, or why it is not believed. `page` is 8-byte aligned. */
export function readHeader(
  page: Uint8Array,
  fileBytes: number,
  key: string,
  maxModulus: number,
): SpoolCounters | string {
  if (fileBytes < HEADER_BYTES || page.length < HEADER_BYTES) return 'it is too short';
  if (!MAGIC.equals(page.subarray(0, MAGIC.length))) return 'it is no spool, or one of another version';
  if (!keyHash(key).equals(page.subarray(KEY_AT, KEY_AT + KEY_BYTES))) return 'it belongs to another channel';
  const fields = doubles(page);
  const at = (name: keyof typeof FIELD): number => fields[FIELD[name]] ?? Number.NaN;
  const found = {
    modulus: at('modulus'),
    stored: at('stored'),
    start: at('start'),
    base: at('base'),
    droppedOldest: at('droppedOldest'),
    droppedNewest: at('droppedNewest'),
    receivedBefore: at('receivedBefore'),
    droppedBefore: at('droppedBefore'),
  };
  const why = doubtAbout(found, fileBytes, maxModulus);
  return why ?? { ...found, source: readSource(at, receivedOf(found)) };
}

/** All bytes that ever came. */
export function receivedOf(counters: Pick<SpoolCounters, 'receivedBefore' | 'stored' | 'droppedNewest'>): number {
  return counters.receivedBefore + counters.stored + counters.droppedNewest;
}

function doubtAbout(found: Omit<SpoolCounters, 'source'>, fileBytes: number, maxModulus: number): string | undefined {
  const { modulus, stored, start, base } = found;
  if (!Object.values(found).every((figure) => Number.isSafeInteger(figure) && figure >= 0)) {
    return 'a counter in it is no number';
  }
  if (modulus === 0 || modulus > maxModulus) return `its size of ${modulus} is outside 1 to ${maxModulus}`;
  if (base > start || start > stored) return 'its offsets are out of order';
  if (stored - start > modulus) return 'its offsets are too far apart';
  const neededBytes = HEADER_BYTES + Math.min(((start - base) % modulus) + stored - start, modulus);
  return fileBytes < neededBytes ? `it has ${fileBytes} bytes, its offsets need ${neededBytes}` : undefined;
}

/** Where the source stood when the last byte had been received; undefined while that was being written. */
function readSource(at: (name: keyof typeof FIELD) => number, received: number): SourceMark | undefined {
  if (at('sourceValid') !== 1) return undefined;
  const words = (['sourceFirst', 'sourceSecond', 'sourcePosition'] as const).map(at);
  if (!words.every((word) => Number.isInteger(word) && word >= 0 && word <= 0xffffffff)) return undefined;
  const since = received - at('sourceReceived');
  if (!Number.isSafeInteger(since)) return undefined;
  const [first = 0, second = 0, position = 0] = words;
  return { id: [first, second], position: modulo(position + since, 2 ** 32) };
}

/** Never negative. */
export function modulo(value: number, modulus: number): number {
  return ((value % modulus) + modulus) % modulus;
}

/** Tells where the source is now; a kill in the middle leaves no mark rather than a wrong one. */
export function writeSource(fields: Float64Array, { id, position }: SourceMark, received: number): void {
  fields[FIELD.sourceValid] = 0;
  fields[FIELD.sourceFirst] = id[0];
  fields[FIELD.sourceSecond] = id[1];
  fields[FIELD.sourcePosition] = position;
  fields[FIELD.sourceReceived] = received;
  fields[FIELD.sourceValid] = 1;
}
