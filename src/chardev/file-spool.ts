/**
 * A spool whose bytes and counters survive the process, in a file; where that cannot be had (no koffi, no room) it goes
 * on in plain memory and says so. Knows neither ring nor reader.
 */
import { FileQueue, type FileQueueOptions, MAX_KEPT_BEHIND_BYTES } from './file-queue.js';
import { Spool, type SpoolQueue } from './spool.js';
import { inspectSpoolFile, readSpoolFile, removeSpoolFile } from './spool-file.js';
import { receivedOf, type SourceMark } from './spool-header.js';

export interface FileSpoolOptions extends FileQueueOptions {
  /** The file cannot be used any more; told once. */
  readonly onDegraded?: (error: unknown) => void;
  /** No file is made; one that is found is read and removed. */
  readonly inMemory?: boolean;
}

/** What the process before this one left. */
export type SpoolFound =
  | { readonly kind: 'none' }
  | { readonly kind: 'unusable'; readonly why: string }
  | { readonly kind: 'recovered'; readonly bytes: number; readonly source: SourceMark | undefined };

/** The largest limit there is, and what stands beside it: what a file may claim. */
const MAX_MODULUS = 1024 * 1024 * 1024 + MAX_KEPT_BEHIND_BYTES;
const NOTHING = Buffer.alloc(0);

export class FileSpool implements SpoolQueue {
  readonly #options: FileSpoolOptions;
  readonly #queue: FileQueue;
  /** Instead of the file, for good. */
  #memory: Spool | undefined;

  /** Takes up what is at the path, if it can be believed; what cannot is removed. Makes nothing yet. */
  static open(options: FileSpoolOptions): { spool: FileSpool; found: SpoolFound } {
    const spool = new FileSpool(options);
    const found = spool.#takeUp();
    if (found.kind === 'unusable') removeSpoolFile(options.path);
    return { spool, found };
  }

  private constructor(options: FileSpoolOptions) {
    this.#options = options;
    this.#queue = new FileQueue(options);
    if (options.inMemory === true) this.#memory = new Spool(options);
  }

  get limitBytes(): number {
    return this.#options.limitBytes;
  }

  get storage(): 'memory' | 'file' {
    return this.#memory === undefined ? 'file' : 'memory';
  }

  get size(): number {
    return this.#memory?.size ?? this.#queue.size;
  }

  get dropped(): number {
    return this.#memory?.dropped ?? this.#queue.dropped;
  }

  get received(): number {
    return this.#memory?.received ?? this.#queue.received;
  }

  append(bytes: Uint8Array): number {
    if (this.#memory !== undefined) return this.#memory.append(bytes);
    const { limitBytes } = this.#options;
    let dropped = 0;
    for (let at = 0; at < bytes.length; at += limitBytes) {
      const piece = bytes.length <= limitBytes ? bytes : bytes.subarray(at, at + limitBytes);
      try {
        dropped += this.#queue.append(piece);
      } catch (error) {
        return dropped + this.#degrade(error).append(bytes.subarray(at));
      }
    }
    return dropped;
  }

  prepend(bytes: Uint8Array): number {
    if (this.#memory !== undefined) return this.#memory.prepend(bytes);
    if (bytes.length === 0) return 0;
    try {
      return this.#queue.prepend(bytes);
    } catch (error) {
      return this.#degrade(error).prepend(bytes);
    }
  }

  reserve(count: number): Uint8Array | undefined {
    if (this.#memory !== undefined) return undefined;
    try {
      return this.#queue.reserve(count);
    } catch (error) {
      this.#degrade(error);
      return undefined;
    }
  }

  commit(count: number): void {
    this.#queue.commit(count);
  }

  pass(count: number): void {
    if (this.#memory === undefined) this.#queueStep(() => this.#queue.pass(count));
  }

  peek(maxBytes = this.size): Uint8Array {
    return this.#memory?.peek(maxBytes) ?? this.#queue.peek(maxBytes);
  }

  consume(count: number, keptBehind = 0): void {
    if (this.#memory !== undefined) this.#memory.consume(count);
    else this.#queueStep(() => this.#queue.consume(count, keptBehind));
  }

  keepBehind(count: number): void {
    if (this.#memory === undefined) this.#queueStep(() => this.#queue.keepBehind(count));
  }

  copyAll(): Buffer {
    return this.#memory?.copyAll() ?? this.#queue.copyAll();
  }

  /** Everything, as a copy; the spool is empty afterwards. Dropped bytes stay counted. */
  takeAll(): Buffer {
    const all = this.copyAll();
    this.consume(all.length);
    return all;
  }

  keepLast(rest: Uint8Array): void {
    if (rest.length <= this.size) this.consume(this.size - rest.length);
    else this.prepend(rest.subarray(0, rest.length - this.size));
  }

  /** The next process finds the bytes in the file: only what is in plain memory must be carried over. */
  leave(): Buffer {
    if (this.#memory !== undefined) return this.#memory.takeAll();
    this.abandon();
    return NOTHING;
  }

  setTotals(totals: { readonly receivedBytes: number; readonly droppedBytes: number }): void {
    (this.#memory ?? this.#queue).setTotals(totals);
  }

  /** The source stands at this position now: all bytes up to it are in here, or were. */
  setSource(mark: SourceMark): void {
    if (this.#memory === undefined) this.#queue.setSource(mark);
  }

  /** Gives back memory that a burst has left behind. */
  tidy(): void {
    if (this.#memory === undefined) this.#queueStep(() => this.#queue.tidy());
  }

  /** The channel is no more: nobody will look for the bytes. Here they stay. */
  forget(): void {
    this.#queue.unlink();
  }

  /** What the end of the process does to it. Not to be used afterwards. */
  abandon(): void {
    this.#memory ??= new Spool(this.#options);
    this.#queue.close();
  }

  #takeUp(): SpoolFound {
    const { path, key } = this.#options;
    const found = inspectSpoolFile(path, key, MAX_MODULUS);
    if (found.kind !== 'usable') return found;
    const { counters } = found;
    try {
      if (!this.#adopt(() => this.#queue.adopt(found))) {
        const content = readSpoolFile(path, counters);
        // Without a way to map it the file goes only now.
        if (this.#memory !== undefined) removeSpoolFile(path);
        this.prepend(content);
        const droppedBytes = this.dropped + counters.droppedOldest + counters.droppedNewest + counters.droppedBefore;
        this.setTotals({ receivedBytes: receivedOf(counters), droppedBytes });
      }
    } catch (error) {
      return { kind: 'unusable', why: error instanceof Error ? error.message : String(error) };
    }
    return { kind: 'recovered', bytes: this.size, source: counters.source };
  }

  #adopt(adopt: () => boolean): boolean {
    if (this.#memory !== undefined) return false;
    try {
      return adopt();
    } catch (error) {
      this.#memory = new Spool(this.#options);
      this.#options.onDegraded?.(error);
      return false;
    }
  }

  #queueStep(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#degrade(error);
    }
  }

  /** On in plain memory, with all that is here. */
  #degrade(error: unknown): Spool {
    const memory = new Spool(this.#options);
    memory.append(this.#queue.copyAll());
    memory.setTotals({ receivedBytes: this.#queue.received, droppedBytes: this.#queue.dropped });
    this.#queue.unlink();
    this.#queue.close();
    this.#memory = memory;
    this.#options.onDegraded?.(error);
    return memory;
  }
}
