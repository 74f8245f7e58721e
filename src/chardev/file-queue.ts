/**
 * A circular queue of bytes in a mapped file. Each change is a copy and a store, in an order that leaves something true
 * at any point; there is no call into the kernel per byte or piece. Throws where the file system refuses, and then holds
 * what it held. Knows neither ring nor reader, and nothing of plain memory.
 */

import type { OverflowPolicy } from './spool.js';
import { type FoundFile, removeSpoolFile, SpoolFile } from './spool-file.js';
import { doubles, FIELD, HEADER_BYTES, modulo, type SourceMark, writeSource } from './spool-header.js';

export interface FileQueueOptions {
  readonly path: string;
  /** Whose bytes these are, in words that last: a file with another key is not believed. */
  readonly key: string;
  readonly limitBytes: number;
  readonly policy: OverflowPolicy;
}

/** Bytes that a chardev has taken and the kernel has not: they stay in the file beside what the limit allows. */
export const MAX_KEPT_BEHIND_BYTES = 320 * 1024;
/** An idle channel keeps the header's page and this. */
export const FIRST_DATA_BYTES = 8192;
/** What a busy channel keeps when it is empty for a moment; `tidy` gives it back. */
export const KEPT_DATA_BYTES = 4 * 1024 * 1024;
const NOTHING = Buffer.alloc(0);
/** What is stored while there is no file goes nowhere; one for all, as most channels are idle. */
const NO_FIELDS: Float64Array = new Float64Array(HEADER_BYTES / 8);

export class FileQueue {
  readonly #options: FileQueueOptions;
  readonly #modulus: number;
  /** Made at the first byte. */
  #file: SpoolFile | undefined;
  #data: Uint8Array = NOTHING;
  #fields: Float64Array = NO_FIELDS;
  /** The counters of the header; see there. */
  #stored = 0;
  #start = 0;
  #base = 0;
  #droppedOldest = 0;
  #droppedNewest = 0;
  #receivedBefore = 0;
  #droppedBefore = 0;
  #keptBehind = 0;
  /** Bytes before this offset were dropped, not given to anybody: they cannot be kept behind. */
  #dropEnd = 0;
  #source: { readonly mark: SourceMark; readonly received: number } | undefined;

  constructor(options: FileQueueOptions) {
    this.#options = options;
    this.#modulus = options.limitBytes + MAX_KEPT_BEHIND_BYTES;
  }

  get size(): number {
    return this.#stored - this.#start;
  }

  get dropped(): number {
    return this.#droppedBefore + this.#droppedOldest + this.#droppedNewest;
  }

  /** All bytes that ever came, dropped ones included. */
  get received(): number {
    return this.#receivedBefore + this.#stored + this.#droppedNewest;
  }

  // --- how it begins -------------------------------------------------------------------------------------------------

  /** Takes over a file that was found usable; false where it is for another limit and must be read instead. */
  adopt({ counters, fileBytes }: FoundFile & { kind: 'usable' }): boolean {
    if (counters.modulus !== this.#modulus) return false;
    this.#use(SpoolFile.adopt(this.#options.path, fileBytes));
    this.#stored = counters.stored;
    this.#start = counters.start;
    this.#base = counters.base;
    this.#droppedOldest = counters.droppedOldest;
    this.#droppedNewest = counters.droppedNewest;
    this.#receivedBefore = counters.receivedBefore;
    this.#droppedBefore = counters.droppedBefore;
    return true;
  }

  setTotals(totals: { readonly receivedBytes: number; readonly droppedBytes: number }): void {
    const mark = this.#sourceNow();
    this.#fields[FIELD.sourceValid] = 0;
    this.#receivedBefore += totals.receivedBytes - this.received;
    this.#droppedBefore += totals.droppedBytes - this.dropped;
    this.#fields[FIELD.receivedBefore] = this.#receivedBefore;
    this.#fields[FIELD.droppedBefore] = this.#droppedBefore;
    if (mark !== undefined) this.setSource(mark);
  }

  /** The source stands at this position now: all bytes up to it are in here, or have passed. */
  setSource(mark: SourceMark): void {
    this.#source = { mark, received: this.received };
    if (this.#file !== undefined) writeSource(this.#fields, mark, this.received);
  }

  // --- the bytes -----------------------------------------------------------------------------------------------------

  /** `bytes` are no more than the limit. First the bytes, then the counter that says they are there. */
  append(bytes: Uint8Array): number {
    const { limitBytes, policy } = this.#options;
    if (this.#file === undefined) this.#make(NOTHING);
    const excess = this.#stored - this.#start + bytes.length - limitBytes;
    if (excess <= 0) {
      this.#put(bytes);
      return 0;
    }
    if (policy === 'drop-newest') {
      const refused = Math.min(excess, bytes.length);
      this.#put(bytes.subarray(0, bytes.length - refused));
      this.#droppedNewest += refused;
      this.#fields[FIELD.droppedNewest] = this.#droppedNewest;
      return refused;
    }
    // What is older than that which gives way cannot be kept for a successor.
    this.#keptBehind = 0;
    this.#start += excess;
    this.#dropEnd = this.#start;
    this.#droppedOldest += excess;
    this.#fields[FIELD.droppedOldest] = this.#droppedOldest;
    this.#fields[FIELD.start] = this.#start;
    this.#put(bytes);
    return excess;
  }

  prepend(bytes: Uint8Array): number {
    const { limitBytes, policy } = this.#options;
    const excess = Math.max(0, bytes.length + this.size - limitBytes);
    if (excess > 0 && policy === 'drop-newest') {
      const content = Buffer.concat([bytes, this.copyAll()]).subarray(0, limitBytes);
      this.#make(content);
      this.#droppedBefore += excess;
      this.#fields[FIELD.droppedBefore] = this.#droppedBefore;
      return excess;
    }
    const gone = Math.min(excess, bytes.length);
    const fitting = bytes.subarray(gone);
    if (this.#file === undefined || this.#start - fitting.length < this.#base) {
      this.#make(Buffer.concat([fitting, this.copyAll()]));
    } else this.#takeBack(fitting, gone);
    this.#droppedBefore += gone;
    this.#fields[FIELD.droppedBefore] = this.#droppedBefore;
    return gone;
  }

  /** Room for `count` bytes in one piece behind the newest; undefined where there is none. */
  reserve(count: number): Uint8Array | undefined {
    if (this.#stored - this.#start + count > this.#options.limitBytes) return undefined;
    if (this.#file === undefined) this.#make(NOTHING);
    const at = (this.#stored - this.#base) % this.#modulus;
    if (at + count > this.#modulus) return undefined;
    if (at + count > this.#data.length) this.#grow(at + count);
    return this.#data.subarray(at, at + count);
  }

  commit(count: number): void {
    this.#stored += count;
    this.#fields[FIELD.stored] = this.#stored;
  }

  /** Counts what the reader got beside the queue. The file says then how far its source has come. */
  pass(count: number): void {
    if (this.#file === undefined) this.#make(NOTHING);
    this.#receivedBefore += count;
    this.#fields[FIELD.receivedBefore] = this.#receivedBefore;
  }

  peek(maxBytes: number): Uint8Array {
    const at = (this.#start - this.#base) % this.#modulus;
    return this.#data.subarray(at, at + Math.min(this.#stored - this.#start, maxBytes, this.#modulus - at));
  }

  consume(count: number, keptBehind: number): void {
    this.#start += count;
    this.#keptBehind = -1;
    this.keepBehind(keptBehind);
  }

  keepBehind(count: number): void {
    if (count === this.#keptBehind) return;
    this.#keptBehind = Math.min(count, MAX_KEPT_BEHIND_BYTES, this.#start - Math.max(this.#base, this.#dropEnd));
    this.#fields[FIELD.start] = this.#start - this.#keptBehind;
    if (this.#keptBehind === 0 && this.#start === this.#stored) this.#emptied();
  }

  copyAll(): Buffer {
    const all = Buffer.allocUnsafe(this.size);
    const first = this.peek(this.size);
    all.set(first);
    all.set(this.#data.subarray(0, all.length - first.length), first.length);
    return all;
  }

  // --- how it ends ---------------------------------------------------------------------------------------------------

  /** Gives back memory that a burst has left behind. */
  tidy(): void {
    const large = this.#file !== undefined && this.#file.dataBytes > FIRST_DATA_BYTES;
    if (large && this.#stored === this.#start && this.#keptBehind === 0) this.#shrink();
  }

  /** The name goes, the bytes stay here. */
  unlink(): void {
    if (this.#file === undefined) removeSpoolFile(this.#options.path);
    else this.#file.unlink();
  }

  /** Lets go of the file. Not to be used afterwards. */
  close(): void {
    this.#file?.close();
    this.#file = undefined;
    this.#data = NOTHING;
    this.#fields = NO_FIELDS;
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** A new file with exactly `content`, in place of what is there, in one step. */
  #make(content: Uint8Array): void {
    const mark = this.#sourceNow();
    const before = { received: this.received, dropped: this.dropped };
    const dataBytes = storageFor(content.length, FIRST_DATA_BYTES, this.#modulus);
    const { path, key } = this.#options;
    const receivedBefore = Math.max(0, before.received - content.length);
    const file = SpoolFile.create(path, { key, modulus: this.#modulus, dataBytes }, (view) => {
      const fields = doubles(view);
      view.set(content, HEADER_BYTES);
      fields[FIELD.stored] = content.length;
      fields[FIELD.receivedBefore] = receivedBefore;
      fields[FIELD.droppedBefore] = before.dropped;
      if (mark !== undefined) writeSource(fields, mark, receivedBefore + content.length);
    });
    this.#file?.close();
    this.#use(file);
    this.#stored = content.length;
    this.#start = 0;
    this.#base = 0;
    this.#droppedOldest = 0;
    this.#droppedNewest = 0;
    this.#keptBehind = 0;
    this.#dropEnd = 0;
    this.#receivedBefore = receivedBefore;
    this.#droppedBefore = before.dropped;
    if (mark !== undefined) this.#source = { mark, received: this.received };
  }

  #use(file: SpoolFile): void {
    this.#file = file;
    this.#data = file.view.subarray(HEADER_BYTES);
    this.#fields = doubles(file.view);
  }

  #sourceNow(): SourceMark | undefined {
    if (this.#source === undefined) return undefined;
    const { mark, received } = this.#source;
    return { id: mark.id, position: modulo(mark.position + this.received - received, 2 ** 32) };
  }

  #put(bytes: Uint8Array): void {
    const at = (this.#stored - this.#base) % this.#modulus;
    const end = at + bytes.length;
    if (end > this.#data.length) this.#grow(Math.min(end, this.#modulus));
    if (end <= this.#modulus) this.#data.set(bytes, at);
    else {
      this.#data.set(bytes.subarray(0, this.#modulus - at), at);
      this.#data.set(bytes.subarray(this.#modulus - at), 0);
    }
    this.#stored += bytes.length;
    this.#fields[FIELD.stored] = this.#stored;
  }

  /** There is storage before the start: the bytes have stood in it. `gone` before them are to be found by nobody. */
  #takeBack(bytes: Uint8Array, gone: number): void {
    const at = (this.#start - bytes.length - this.#base) % this.#modulus;
    const first = Math.min(bytes.length, this.#modulus - at);
    this.#data.set(bytes.subarray(0, first), at);
    if (first < bytes.length) this.#data.set(bytes.subarray(first), 0);
    this.#keptBehind = Math.max(0, this.#keptBehind - bytes.length - gone);
    this.#start -= bytes.length;
    if (gone > 0 || this.#dropEnd > this.#start) this.#dropEnd = this.#start;
    this.#fields[FIELD.start] = this.#start - this.#keptBehind;
  }

  #grow(neededBytes: number): void {
    if (this.#file === undefined) return;
    this.#file.resize(storageFor(neededBytes, 2 * this.#data.length, this.#modulus));
    this.#use(this.#file);
  }

  #emptied(): void {
    if (this.#data.length > KEPT_DATA_BYTES) this.#shrink();
    else {
      this.#base = this.#start;
      this.#fields[FIELD.base] = this.#base;
    }
  }

  #shrink(): void {
    if (this.#file === undefined) return;
    this.#base = this.#start;
    this.#fields[FIELD.base] = this.#base;
    this.#file.resize(FIRST_DATA_BYTES);
    this.#use(this.#file);
  }
}

/** A power of two, or all there can be. */
function storageFor(neededBytes: number, leastBytes: number, mostBytes: number): number {
  let bytes = Math.max(FIRST_DATA_BYTES, leastBytes);
  while (bytes < neededBytes) bytes *= 2;
  return Math.min(bytes, mostBytes);
}
