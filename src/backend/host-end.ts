/**
 * Opens the host end of a channel, and again after a while when that fails: a path in use now may be free later. The
 * guest is drained meanwhile.
 */
import type { Chardev, ChardevEvents } from '../chardev/chardev.js';
import type { Problems } from './problems.js';
import type { Timers } from './turns.js';

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 30_000;

export interface HostEndOptions {
  readonly chardev: Chardev;
  readonly timers: Timers;
  readonly problems: Problems;
  /** A terminal is there that the guest may be told of. */
  readonly onOpen: () => void;
}

export class HostEnd {
  readonly #options: HostEndOptions;
  #opening: Promise<void> = Promise.resolve();
  #delayMs = FIRST_RETRY_MS;

  constructor(options: HostEndOptions) {
    this.#options = options;
  }

  open(events: ChardevEvents): void {
    this.#opening = this.#tryOpen(events);
  }

  /** Resolves when no attempt is under way. */
  settled(): Promise<void> {
    return this.#opening;
  }

  async #tryOpen(events: ChardevEvents): Promise<void> {
    const { chardev, timers, problems, onOpen } = this.#options;
    try {
      await chardev.open(events);
      problems.solved('chardev');
      if (chardev.tty !== undefined) onOpen();
    } catch (error) {
      problems.report('chardev', error);
      timers.after(this.#delayMs, () => this.open(events));
      this.#delayMs = Math.min(2 * this.#delayMs, LAST_RETRY_MS);
    }
  }
}
