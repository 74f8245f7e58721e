/**
 * How long a full spool may hold up the guest for the sake of a connected client: long enough that a live reader loses
 * nothing, so short that a stuck one costs the guest next to nothing. Knows neither ring nor client.
 */
import type { Clock, Timer } from '../base/clock.js';

/**
 * A Linux guest spins in hvc with interrupts off meanwhile (linux:drivers/tty/hvc/hvc_xen.c, domU_write_console). Soft
 * lockup and RCU stall detectors speak up after seconds. A reader on a busy host may well not run for 20 ms (seen).
 */
export const PATIENCE_MS = 100;
/** What a client must have taken before it is waited for again: so much reading earns the whole PATIENCE_MS. */
export const PATIENCE_BYTES = 65536;

export interface PatienceOptions {
  readonly clock: Clock;
  /** Runs `turn` when others had their turn, what the client's socket has to say included. */
  readonly defer: (turn: () => void) => void;
  /** Nobody is waited for any more: what the spool cannot hold goes by its policy. */
  readonly onSpent: () => void;
}

export class Patience {
  readonly #options: PatienceOptions;
  #leftMs = PATIENCE_MS;
  /** Taken by the client since it has first been waited for, or since that was too long. */
  #takenBytes = 0;
  #wait: { readonly sinceMs: number; readonly timer: Timer } | undefined;
  #stalls = 0;
  #stalledMs = 0;

  constructor(options: PatienceOptions) {
    this.#options = options;
  }

  get waiting(): boolean {
    return this.#wait !== undefined;
  }

  get figures(): { readonly stalls: number; readonly stalledMs: number } {
    return { stalls: this.#stalls, stalledMs: this.#stalledMs };
  }

  /** The spool is full and the ring is not empty. False: nobody is waited for. */
  wait(): boolean {
    if (this.#wait !== undefined) return true;
    if (this.#leftMs === 0) return false;
    const { clock } = this.#options;
    this.#stalls++;
    this.#wait = { sinceMs: clock.now(), timer: clock.after(this.#leftMs, () => this.#expire()) };
    return true;
  }

  /** There is room, or nobody to wait for. */
  end(): void {
    if (this.#wait === undefined) return;
    const { sinceMs, timer } = this.#wait;
    this.#wait = undefined;
    timer.cancel();
    // The system clock may be set back meanwhile.
    const elapsedMs = Math.max(0, this.#options.clock.now() - sinceMs);
    this.#stalledMs += elapsedMs;
    this.#leftMs = Math.max(0, this.#leftMs - elapsedMs);
    if (this.#leftMs === 0) this.#takenBytes = 0;
  }

  /** The client has taken bytes. */
  took(count: number): void {
    if (this.#leftMs === PATIENCE_MS) return;
    this.#takenBytes += count;
    if (this.#takenBytes < PATIENCE_BYTES) return;
    this.#takenBytes = 0;
    this.#leftMs = PATIENCE_MS;
  }

  /** When this process itself was late, the client may have made room long ago and we have not been told yet. */
  #expire(): void {
    const expired = this.#wait;
    this.#options.defer(() => {
      if (expired === undefined || this.#wait !== expired) return;
      this.end();
      this.#leftMs = 0;
      this.#takenBytes = 0;
      this.#options.onSpent();
    });
  }
}
