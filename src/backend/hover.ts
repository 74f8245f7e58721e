/**
 * Waits for a guest that is in the middle of writing, for a few microseconds and without leaving the turn: what it adds
 * meanwhile then needs no event, no bell and no write of its own. Knows nothing of what becomes of the bytes.
 */
import { type BackendRing, OUT_BYTES } from '../console/ring.js';

/**
 * So much at once is no keystroke: Linux hands a longer write to the console in pieces of this size
 * (linux:drivers/tty/hvc/hvc_xen.c, hvc_alloc with 256 bytes).
 */
export const BULK_BYTES = 256;
/** Looks at the ring in one wait: some microseconds on hardware, less than an event costs. */
const LOOKS = 200;
/** Waits in vain in a row, after which it is not tried any more: this guest goes on only when it is rung. */
const MAX_MISSES = 4;
/** Except once in so many times. */
const PROBE_EVERY = 64;

export class Hover {
  #misses = 0;
  #skipped = 0;

  /** True when the guest has written more. Ends early when that fills half of the ring. */
  wait(ring: Pick<BackendRing, 'outPending'>): boolean {
    if (this.#misses >= MAX_MISSES && ++this.#skipped < PROBE_EVERY) return false;
    this.#skipped = 0;
    let pending = 0;
    for (let look = 0; look < LOOKS && pending < OUT_BYTES / 2; look++) pending = ring.outPending();
    this.#misses = pending > 0 ? 0 : this.#misses + 1;
    return pending > 0;
  }
}
