/**
 * Waits for a guest that is in the middle of writing or reading, for less than an event costs and without leaving the
 * turn: what it does meanwhile needs no event, no bell and no write of its own. Knows nothing of what becomes of the bytes.
 */
import { type BackendRing, IN_BYTES, OUT_BYTES } from '../console/ring.js';
import { type BellCost, LEAST_LOOKS } from './bell-cost.js';

/**
 * So much at once is no keystroke: Linux hands a longer write to the console in pieces of this size
 * (linux:drivers/tty/hvc/hvc_xen.c, hvc_alloc with 256 bytes).
 */
export const BULK_BYTES = 256;
/** Waits in vain in a row, after which it is not tried any more: this guest goes on only when it is rung. */
const MAX_MISSES = 4;
/** Except once in so many times, and ever more seldom. */
const PROBE_EVERY = { first: 64, last: 1024 } as const;
/** Fewer take no longer than asking the clock. */
const LOOKS_OF_A_MEASUREMENT = 100;

/** One for each direction of a channel: a guest may be quick in one and not in the other. */
export class Hover {
  readonly #cost: BellCost;
  #misses = 0;
  #skipped = 0;
  #probeEvery: number = PROBE_EVERY.first;
  /** So long was waited in vain. */
  #missedLooks = 0;

  constructor(cost: BellCost) {
    this.#cost = cost;
  }

  /** True when the guest has written more. Ends early when that fills half of the ring, or no more comes behind it. */
  waitForOutput(ring: Pick<BackendRing, 'watchOut'>): boolean {
    if (!this.#paysNow()) return false;
    const startMs = this.#startLooking();
    let pending = 0;
    let done = 0;
    for (let limit = this.#cost.worthLooks; done < limit && pending < OUT_BYTES / 2; done++) {
      const before = pending;
      pending = ring.watchOut();
      if (before === 0 && pending > 0) limit = Math.min(limit, done + LEAST_LOOKS);
    }
    return this.#note(pending > 0, done, startMs);
  }

  /** Ends when the guest has taken so much that half of the ring is free. */
  waitForRoom(ring: Pick<BackendRing, 'inPending' | 'watchIn'>): void {
    // A guest that takes everything when it is rung, as a simulated one does, costs no more than this.
    if (ring.inPending() <= IN_BYTES / 2 || !this.#paysNow()) return;
    const startMs = this.#startLooking();
    const limit = this.#cost.worthLooks;
    let done = 0;
    while (done < limit && ring.watchIn() > IN_BYTES / 2) done++;
    this.#note(done < limit, done, startMs);
  }

  #paysNow(): boolean {
    // What was too short may pay now that it is known to be cheaper.
    const longer = this.#cost.worthLooks >= 2 * this.#missedLooks;
    if (this.#misses >= MAX_MISSES && !longer && ++this.#skipped < this.#probeEvery) return false;
    this.#skipped = 0;
    return true;
  }

  /**
   * After a miss always measured: what is known of looks may be from before they were compiled, and then waits are too short
   * to succeed, and soon too seldom to tell.
   */
  #startLooking(): number | undefined {
    return this.#cost.looks.start(this.#misses > 0);
  }

  #note(hit: boolean, looks: number, startMs: number | undefined): boolean {
    if (startMs !== undefined && looks >= LOOKS_OF_A_MEASUREMENT) this.#cost.looks.end(startMs, looks);
    if (hit) this.#probeEvery = PROBE_EVERY.first;
    else if (this.#misses >= MAX_MISSES) this.#probeEvery = Math.min(2 * this.#probeEvery, PROBE_EVERY.last);
    if (!hit) this.#missedLooks = looks;
    this.#misses = hit ? 0 : this.#misses + 1;
    return hit;
  }
}
