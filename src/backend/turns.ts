/**
 * Whose turn it is when somebody has more work than one turn allows: each waiting session gets one turn in each round of
 * the event loop. And the timers of one owner, so that none is left behind.
 */
import type { Clock, Timer } from '../base/clock.js';

export class TurnQueue {
  #waiting: (() => void)[] = [];
  #immediate: NodeJS.Immediate | undefined;

  defer(turn: () => void): void {
    this.#waiting.push(turn);
    this.#immediate ??= setImmediate(() => {
      this.#immediate = undefined;
      const round = this.#waiting;
      this.#waiting = [];
      for (const waiting of round) isolate(waiting);
    });
  }

  /** Turns that still waited are not taken any more. */
  stop(): void {
    if (this.#immediate !== undefined) clearImmediate(this.#immediate);
    this.#immediate = undefined;
    this.#waiting = [];
  }
}

/** One session's bug must not cost the others their turn. */
function isolate(turn: () => void): void {
  try {
    turn();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

export class Timers {
  readonly #clock: Clock;
  readonly #running = new Set<Timer>();
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  after(delayMs: number, fn: () => void): Timer {
    if (this.#stopped) return { cancel: () => {} };
    const timer = this.#clock.after(delayMs, () => {
      this.#running.delete(timer);
      fn();
    });
    this.#running.add(timer);
    return {
      cancel: () => {
        timer.cancel();
        this.#running.delete(timer);
      },
    };
  }

  now(): number {
    return this.#clock.now();
  }

  /** Cancels all; none can be started any more. */
  stop(): void {
    this.#stopped = true;
    for (const timer of this.#running) timer.cancel();
    this.#running.clear();
  }
}

/** At most `count` events in any `windowMs`: says how long the next one must wait. */
export class RateLimit {
  readonly #clock: Clock;
  readonly #count: number;
  readonly #windowMs: number;
  #times: number[] = [];

  constructor(clock: Clock, { count, windowMs }: { readonly count: number; readonly windowMs: number }) {
    this.#clock = clock;
    this.#count = count;
    this.#windowMs = windowMs;
  }

  /** 0: it may happen now, and is counted. */
  delayMs(): number {
    const now = this.#clock.now();
    this.#times = this.#times.filter((at) => at > now - this.#windowMs);
    const oldest = this.#times[0];
    if (oldest !== undefined && this.#times.length >= this.#count) return oldest + this.#windowMs - now;
    this.#times.push(now);
    return 0;
  }
}
