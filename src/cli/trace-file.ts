/** Where trace lines go: to a stream at once, or to a file in batches. Bounded; knows nothing of what the lines say. */
import { closeSync, openSync, writeSync } from 'node:fs';

/** Lines are kept until the end of the turn of the event loop, or until there is this much. */
const BATCH_BYTES = 64 * 1024;

export interface LineSink {
  add(line: string): void;
  close(): void;
}

export class LineFile implements LineSink {
  readonly #fd: number;
  readonly #onError: (error: unknown) => void;
  #lines: string[] = [];
  #waitingBytes = 0;
  #scheduled: NodeJS.Immediate | undefined;
  #failed = false;

  /** Appends to the file, which is made if absent. `onError` is called once: no line is kept after that. */
  constructor(path: string, onError: (error: unknown) => void) {
    this.#fd = openSync(path, 'a', 0o600);
    this.#onError = onError;
  }

  add(line: string): void {
    if (this.#failed) return;
    this.#lines.push(line);
    this.#waitingBytes += line.length;
    if (this.#waitingBytes >= BATCH_BYTES) this.#flush();
    else this.#scheduled ??= setImmediate(() => this.#flush());
  }

  close(): void {
    this.#flush();
    this.#failed = true;
    closeSync(this.#fd);
  }

  #flush(): void {
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    if (this.#lines.length === 0 || this.#failed) return;
    const bytes = Buffer.from(this.#lines.join(''));
    this.#lines = [];
    this.#waitingBytes = 0;
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      this.#failed = true;
      this.#onError(error);
    }
  }
}
