/**
 * Has dom0's clients whose transactions keep colliding go one after the other: of eight that increment one counter, each
 * try but one in eight would be in vain. Only delays the beginning of a transaction, only of clients that have just lost
 * to another, and never for long: answers stay what they would be. Knows no socket and no node.
 */
import type { StoreClock } from '../client/options.js';

/** So many commits in a row without a conflict, and a client is no rival any more. */
const RIVAL_COMMITS = 64;
/** A turn that others wait for ends after this time, up to twice as long, whatever its owner does. */
const TURN_MS = 5;

export class Turns {
  readonly #clock: StoreClock;
  readonly #waiting: { readonly turn: Turn; readonly resume: () => void }[] = [];
  #holder: Turn | undefined;
  #timer: { cancel(): void } | undefined;
  /** To see whether anything happened between two looks at the clock. */
  #passed = 0;

  constructor(clock: StoreClock) {
    this.#clock = clock;
  }

  isFreeFor(turn: Turn): boolean {
    this.#holder ??= turn;
    return this.#holder === turn;
  }

  wait(turn: Turn, resume: () => void): void {
    this.#waiting.push({ turn, resume });
    if (this.#timer === undefined) this.#watch();
  }

  holds(turn: Turn): boolean {
    return this.#holder === turn;
  }

  /** The owner's turn is over. */
  pass(): void {
    this.#passed++;
    const next = this.#waiting.shift();
    this.#holder = next?.turn;
    next?.resume();
  }

  leave(turn: Turn): void {
    const index = this.#waiting.findIndex((waiter) => waiter.turn === turn);
    if (index >= 0) this.#waiting.splice(index, 1);
    if (this.#holder === turn) this.pass();
  }

  #watch(): void {
    const passed = this.#passed;
    this.#timer = this.#clock.after(TURN_MS, () => {
      this.#timer = undefined;
      if (this.#passed === passed && this.#waiting.length > 0) this.pass();
      if (this.#timer === undefined && this.#waiting.length > 0) this.#watch();
    });
  }
}

/** What a client has done so far. */
export interface Outcomes {
  /** Transactions that ended with EAGAIN. */
  readonly conflicts: number;
  readonly commits: number;
  /** Transactions in progress. */
  readonly open: number;
}

/** One client's part in it. */
export class Turn {
  readonly #turns: Turns;
  #conflicts = 0;
  #commits = 0;
  #rivalry = 0;

  constructor(turns: Turns) {
    this.#turns = turns;
  }

  /** Whether the client's new transaction has to wait; `resume` is called then, unless it leaves before. */
  mustWait(resume: () => void): boolean {
    if (this.#rivalry === 0 || this.#turns.isFreeFor(this)) return false;
    this.#turns.wait(this, resume);
    return true;
  }

  /** To be called after each step of the client. */
  stepped({ conflicts, commits, open }: Outcomes): void {
    if (conflicts !== this.#conflicts) {
      this.#conflicts = conflicts;
      this.#commits = commits;
      // The turn goes on: the client will try again.
      this.#rivalry = RIVAL_COMMITS;
      return;
    }
    if (this.#rivalry === 0) return;
    if (commits !== this.#commits) this.#rivalry--;
    this.#commits = commits;
    if (open === 0 && this.#turns.holds(this)) this.#turns.pass();
  }

  leave(): void {
    this.#turns.leave(this);
  }
}
