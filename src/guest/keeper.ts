/**
 * Holds terminal lines open and raw: a terminal goes back to cooked mode with echo when its last user closes it, so
 * somebody has to stay. Never reads. Knows which lines are held, not which channels they are.
 */
import { ChannelError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { type HeldLine, LINE_COUNT, type LineView, type TtyLines } from './lines.js';

export class Keeper {
  readonly #lines: TtyLines;
  readonly #log: Logger;
  readonly #held = new Map<number, HeldLine>();
  /** Lines that belong to a channel; the others are spare. */
  readonly #kept = new Set<number>();

  constructor(lines: TtyLines, log: Logger) {
    this.#lines = lines;
    this.#log = log;
  }

  /** Lines that belong to no channel yet. */
  get spares(): HeldLine[] {
    return [...this.#held.values()].filter(({ index }) => !this.#kept.has(index));
  }

  /** Looks at all lines and takes hold of every free one. Dead ones are let go first: a new console may be there. */
  async takeFree(primary: boolean): Promise<LineView[]> {
    this.releaseDead();
    const views = await this.#lines.survey({ primary, kept: this.#kept });
    const seen: LineView[] = [];
    for (const view of views) {
      const held = this.#held.has(view.index);
      // Somebody began to use a spare line: its bytes are theirs now.
      if (held && view.state !== 'free') this.release(view.index);
      seen.push(held || view.state !== 'free' ? view : await this.#take(view.index));
    }
    return seen;
  }

  /** Takes a line that others may be using; for lines that a record says are ours. */
  async takeBusy(index: number): Promise<HeldLine | undefined> {
    if (index < 0 || index >= LINE_COUNT) return undefined;
    if (!this.#held.has(index)) await this.#take(index);
    return this.keep(index);
  }

  /** Marks a line as a channel's; undefined if it is not held. */
  keep(index: number): HeldLine | undefined {
    const line = this.#held.get(index);
    if (line !== undefined) this.#kept.add(index);
    return line;
  }

  release(index: number): void {
    this.#held.get(index)?.close();
    this.#held.delete(index);
    this.#kept.delete(index);
  }

  releaseDead(): void {
    for (const [index, line] of this.#held) if (!line.alive()) this.release(index);
  }

  releaseSpares(): void {
    for (const { index } of this.spares) this.release(index);
  }

  releaseAll(): void {
    for (const index of [...this.#held.keys()]) this.release(index);
  }

  /** `free` if the line is held and raw now. */
  async #take(index: number): Promise<LineView> {
    let line: HeldLine | undefined;
    try {
      line = await this.#lines.open(index);
      if (line === undefined) return { index, state: 'absent' };
      await line.makeRaw();
      this.#held.set(index, line);
      return { index, state: 'free' };
    } catch (error) {
      line?.close();
      if (!(error instanceof ChannelError)) throw error;
      this.#log.log('warn', 'line cannot be held', { line: index, problem: error.message });
      return { index, state: 'busy', reason: error.message };
    }
  }
}
