/**
 * A file that grows, is turned over at a size, and may be full or gone for a while without anybody waiting for it. Knows
 * nothing of channels: log-chardev.ts makes a host end of it, tee.ts lets it listen beside another one.
 *
 * Bytes wait in a bounded queue while the thread pool writes; each batch is in the file as a whole or not at all, so
 * that what could not be written is known exactly and tried again.
 */
import { write as writeAsync } from 'node:fs';
import type { Clock, Timer } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import { type Logger, silentLogger } from '../base/log.js';
import { BackOff } from './back-off.js';
import { NEWLINE, PREFIX_BYTES, type RenderedLines, renderLines } from './log-lines.js';
import { type LogDescriptor, type LogPlace, openLog, rotate } from './log-place.js';
import { Spool } from './spool.js';

export interface LogFileOptions extends LogPlace {
  readonly clock: Clock;
  readonly log?: Logger;
  /** At this size the file becomes `<path>.1`. */
  readonly maxBytes?: number;
  /** How many older files are kept beside it. */
  readonly keep?: number;
  /** Puts the time (ISO 8601, UTC) at which it is written in front of each line. */
  readonly timestamps?: boolean;
}

export const DEFAULT_MAX_BYTES = 16 * 1024 * 1024;
export const DEFAULT_KEEP = 4;
export const QUEUE_BYTES = 256 * 1024;
const BATCH_BYTES = 65536;
/** Room for a few lines and their times: below it a file would hold nothing but them. */
export const MIN_MAX_BYTES = 4096;
const NOTHING_FITS: RenderedLines = { bytes: Buffer.alloc(0), taken: 0, atLineStart: true };
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 30_000;

export class LogFile {
  readonly #options: LogFileOptions;
  readonly #log: Logger;
  readonly #maxBytes: number;
  readonly #queue = new Spool({ limitBytes: QUEUE_BYTES, policy: 'drop-newest' });
  readonly #backOff = new BackOff({ firstMs: FIRST_RETRY_MS, lastMs: LAST_RETRY_MS, random: () => 1 });
  #file: LogDescriptor | undefined;
  #atLineStart = true;
  #busy = false;
  #failing = '';
  #retryTimer: Timer | undefined;
  #state: 'open' | 'closing' | 'closed' = 'open';
  /** Called after each batch and each failure. */
  #onProgress: () => void = () => {};
  #figures = { loggedBytes: 0, rotations: 0, failures: 0 };

  constructor(options: LogFileOptions) {
    this.#options = options;
    this.#maxBytes = Math.max(MIN_MAX_BYTES, options.maxBytes ?? DEFAULT_MAX_BYTES);
    this.#log = (options.log ?? silentLogger).with({ log: options.path });
  }

  /** Throws ChannelError `path-not-a-file`, `permission-denied`, `system-call-failed`, `account-unknown`. */
  open(onProgress: () => void): void {
    this.#file ??= this.#openFile();
    this.#onProgress = onProgress;
  }

  /** As `open`, but what goes wrong is tried again, as for a full disk. */
  start(onProgress: () => void): void {
    this.#onProgress = onProgress;
    this.#flush();
  }

  /** How many bytes `append` takes now without dropping any. */
  get room(): number {
    return this.#state === 'open' ? this.#queue.limitBytes - this.#queue.size : 0;
  }

  /** Waiting to be written. */
  get queuedBytes(): number {
    return this.#queue.size;
  }

  get failing(): boolean {
    return this.#failing !== '';
  }

  /** Never waits. What does not fit into the queue is dropped and counted. */
  append(bytes: Uint8Array): void {
    this.#queue.append(bytes);
    this.#flush();
  }

  /** Writes what waits, with one more attempt where the file fails; returns what could not be written. */
  async close(): Promise<Uint8Array> {
    if (this.#state !== 'open') return Buffer.alloc(0);
    this.#state = 'closing';
    this.#retryTimer?.cancel();
    this.#retryTimer = undefined;
    while (this.#busy) await this.#step();
    const failures = this.#figures.failures;
    this.#flush();
    while (this.#busy || (this.#queue.size > 0 && this.#figures.failures === failures)) await this.#step();
    this.abandon();
    return this.#queue.takeAll();
  }

  /** Nothing more is written, apart from what is under way. */
  abandon(): void {
    this.#state = 'closed';
    this.#retryTimer?.cancel();
    // A descriptor must not be closed under a write: its number may be somebody else's by then.
    if (!this.#busy) this.#closeFile();
  }

  figures(): Readonly<Record<string, number | string>> {
    return {
      ...this.#figures,
      logQueueBytes: this.#queue.size,
      logDroppedBytes: this.#queue.dropped,
      logError: this.#failing,
    };
  }

  #flush(): void {
    if (this.#busy || this.#retryTimer !== undefined || this.#state === 'closed') return;
    try {
      this.#writeBatch();
    } catch (error) {
      this.#failed(error);
    }
  }

  #writeBatch(): void {
    if (this.#file?.isReplaced() === true) this.#closeFile();
    this.#file ??= this.#openFile();
    if (this.#queue.size === 0) {
      this.#works();
      return;
    }
    let batch = this.#nextBatch(this.#file);
    if (batch.taken === 0) {
      this.#closeFile();
      rotate(this.#options.path, this.#options.keep ?? DEFAULT_KEEP);
      this.#figures.rotations++;
      this.#file = this.#openFile();
      batch = this.#nextBatch(this.#file);
    }
    this.#busy = true;
    const file = this.#file;
    writeAsync(file.fd, batch.bytes, (error, count) => {
      this.#busy = false;
      if (error === null && count === batch.bytes.length) this.#written(file, batch);
      else this.#failed(error ?? Object.assign(new Error('short write'), { code: 'ENOSPC' }), file);
      if (this.#state === 'closed') this.#closeFile();
    });
  }

  /** What of the queue still belongs into this file; where there are lines it ends with one. */
  #nextBatch(file: LogDescriptor): RenderedLines {
    const source = this.#queue.peek(BATCH_BYTES);
    const timestamps = this.#options.timestamps === true;
    const room = this.#maxBytes - file.size;
    const lineBytes = source.indexOf(NEWLINE) + 1 + (timestamps ? PREFIX_BYTES : 0);
    const nextFits = lineBytes <= room || lineBytes > this.#maxBytes;
    if (this.#atLineStart && source.includes(NEWLINE) && !nextFits) return NOTHING_FITS;
    if (timestamps) {
      return renderLines(source, this.#atLineStart, this.#options.clock.now(), Math.min(room, 2 * BATCH_BYTES));
    }
    const taken = Math.max(0, Math.min(source.length, room));
    const lineEnd = taken < source.length && taken > 0 ? source.lastIndexOf(NEWLINE, taken - 1) + 1 : 0;
    const bytes = Buffer.from(source.subarray(0, lineEnd > 0 ? lineEnd : taken));
    return { bytes, taken: bytes.length, atLineStart: bytes.at(-1) === NEWLINE };
  }

  #written(file: LogDescriptor, { bytes, taken, atLineStart }: RenderedLines): void {
    file.size += bytes.length;
    this.#figures.loggedBytes += taken;
    this.#atLineStart = atLineStart;
    this.#queue.consume(taken);
    this.#works();
    this.#onProgress();
    if (this.#queue.size > 0) this.#flush();
  }

  #works(): void {
    if (this.#failing !== '') this.#log.log('info', 'log can be written again', { droppedBytes: this.#queue.dropped });
    this.#failing = '';
    this.#backOff.reset();
  }

  #failed(cause: unknown, file?: LogDescriptor): void {
    const errno = reasonOf(cause);
    this.#figures.failures++;
    // Once for each reason; the count says how often.
    if (errno !== this.#failing) this.#log.log('warn', `log cannot be written: ${errno}`, { errno });
    this.#failing = errno;
    file?.cutBack();
    this.#closeFile();
    if (this.#state === 'open') {
      this.#retryTimer = this.#options.clock.after(this.#backOff.next(), () => {
        this.#retryTimer = undefined;
        this.#flush();
      });
    }
    this.#onProgress();
  }

  #openFile(): LogDescriptor {
    const file = openLog(this.#options);
    this.#atLineStart = file.endsWithLine;
    return file;
  }

  #closeFile(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  /** Until the next batch or failure. */
  #step(): Promise<void> {
    return new Promise((settle) => {
      const before = this.#onProgress;
      this.#onProgress = () => {
        this.#onProgress = before;
        before();
        settle();
      };
    });
  }
}

/** The kernel's word for it, where there is one. */
function reasonOf(cause: unknown): string {
  if (cause instanceof ChannelError) {
    const { errno } = cause.details;
    return typeof errno === 'string' ? errno : cause.code;
  }
  return cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
}
