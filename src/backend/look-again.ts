/**
 * Runs one asynchronous look at a time: again when it was asked for meanwhile, later when it failed, and no more often
 * than a guest that keeps writing to its nodes may cause.
 */
import type { Clock, Timer } from '../base/clock.js';
import { RateLimit, type Timers } from './turns.js';

/** Looks that one channel may cause. */
export const LOOK_LIMIT = { count: 100, windowMs: 1000 };
const RETRY_MS = 1000;

export interface LookAgainOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly look: () => Promise<void>;
  readonly onFailure: (error: unknown) => void;
  readonly onSuccess: () => void;
}

export class LookAgain {
  readonly #options: LookAgainOptions;
  readonly #limit: RateLimit;
  #wanted = false;
  #running: Promise<void> | undefined;
  #timer: Timer | undefined;
  #timerAtMs = 0;
  #stopped = false;

  constructor(options: LookAgainOptions) {
    this.#options = options;
    this.#limit = new RateLimit(options.clock, LOOK_LIMIT);
  }

  /** Looks as soon as the look that may be under way is over. */
  now(): void {
    if (this.#stopped) return;
    this.#wanted = true;
    this.#running ??= this.#run().then(() => {
      this.#running = undefined;
      if (this.#wanted) this.now();
    });
  }

  /** Looks in `delayMs`; of several such wishes the earliest counts. */
  later(delayMs: number): void {
    const atMs = this.#options.timers.now() + delayMs;
    if (this.#timer !== undefined && this.#timerAtMs <= atMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    this.#timer = this.#options.timers.after(delayMs, () => {
      this.#timer = undefined;
      this.now();
    });
  }

  /** Resolves when no look is under way. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** The look under way goes on to its next question, none follows. */
  stop(): void {
    this.#stopped = true;
    this.#wanted = false;
  }

  async #run(): Promise<void> {
    while (this.#wanted) {
      this.#wanted = false;
      const delayMs = this.#limit.delayMs();
      if (delayMs > 0) {
        this.later(delayMs);
        return;
      }
      try {
        await this.#options.look();
        this.#options.onSuccess();
      } catch (error) {
        if (this.#stopped) return;
        this.#options.onFailure(error);
        this.later(RETRY_MS);
        return;
      }
    }
  }
}
