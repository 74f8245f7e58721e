/**
 * The event channel of one ring, as its session uses it: the port stays masked until the session has nothing left to
 * do, and a guest that rings without need has to wait. Knows neither Xen nor time.
 */

import type { BellCost } from './bell-cost.js';

export interface Doorbell {
  notify(): void;
  unmask(): void;
}

/** Doorbells in a row with nothing to do, before the next one has to wait: a correct guest rings when it has moved. */
export const MAX_IDLE_EVENTS = 64;

export class PacedDoorbell {
  readonly #doorbell: Doorbell;
  readonly #slowDown: (resume: () => void) => void;
  readonly #cost: BellCost;
  #masked = false;
  #idle = 0;
  #silenced = false;

  constructor(doorbell: Doorbell, slowDown: (resume: () => void) => void, cost: BellCost) {
    this.#doorbell = doorbell;
    this.#slowDown = slowDown;
    this.#cost = cost;
  }

  notify(): void {
    const { bells } = this.#cost;
    const startMs = bells.start();
    this.#doorbell.notify();
    if (startMs !== undefined) bells.end(startMs);
  }

  /** An event was delivered: there will be no other before `rest`. */
  rang(): void {
    this.#masked = true;
  }

  /**
   * Everything is done. Unmasking late is what holds an event storm back (XSA-332): dom0 then works for this guest no
   * faster than we say.
   */
  rest(moved: boolean): 'idle' | 'busy' {
    if (moved) this.#idle = 0;
    if (!this.#masked) return 'busy';
    this.#masked = false;
    if (!moved) this.#idle++;
    if (this.#idle <= MAX_IDLE_EVENTS) this.#doorbell.unmask();
    else this.#slowDown(() => this.#silenced || this.#doorbell.unmask());
    return moved ? 'busy' : 'idle';
  }

  /** The ring is gone: a pause that still runs ends without effect. */
  silence(): void {
    this.#silenced = true;
  }
}
