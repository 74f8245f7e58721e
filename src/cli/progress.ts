/** One line on a terminal that says how far a transfer is; nothing where stderr is no terminal. */
import { formatBytes } from './human.js';
import type { Io } from './io.js';

/** More often is only flicker. */
const REDRAW_MS = 200;

export class ProgressLine {
  readonly #io: Io;
  readonly #totalBytes: number | undefined;
  readonly #startMs: number;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #drawn = false;

  constructor(io: Io, totalBytes: number | undefined) {
    this.#io = io;
    this.#totalBytes = totalBytes;
    this.#startMs = io.clock.now();
  }

  update(doneBytes: number): void {
    const now = this.#io.clock.now();
    if (this.#io.stderr.isTTY !== true || now - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = now;
    this.#drawn = true;
    this.#io.stderr.write(`\r\x1b[K${this.#text(doneBytes, now - this.#startMs)}`);
  }

  /** Leaves the terminal as if nothing had been there. */
  clear(): void {
    if (this.#drawn) this.#io.stderr.write('\r\x1b[K');
  }

  #text(doneBytes: number, elapsedMs: number): string {
    const total = this.#totalBytes;
    const share = total === undefined || total === 0 ? '' : `${Math.floor((100 * doneBytes) / total)}% `;
    const of = total === undefined ? '' : ` of ${formatBytes(total)}`;
    const rate = elapsedMs > 0 ? `, ${formatBytes(Math.round((1000 * doneBytes) / elapsedMs))}/s` : '';
    return `${share}${formatBytes(doneBytes)}${of}${rate}`;
  }
}
