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
  /** The first attempt is over, or a later one has made a terminal that the guest may be told of. */
  readonly onTried: () => void;
}

export class HostEnd {
  readonly #options: HostEndOptions;
  #opening: Promise<void> = Promise.resolve();
  #delayMs = FIRST_RETRY_MS;
  #tried = false;

  constructor(options: HostEndOptions) {
    this.#options = options;
  }

  /** It is open, or could not be opened at once. */
  get tried(): boolean {
    return this.#tried;
  }

  open(events: ChardevEvents): void {
    this.#opening = this.#tryOpen(events);
  }

  /** Resolves when no attempt is under way. */
  settled(): Promise<void> {
    return this.#opening;
  }

  async #tryOpen(events: ChardevEvents): Promise<void> {
    const { chardev, timers, problems, onTried } = this.#options;
    const isFirst = !this.#tried;
    try {
      await chardev.open(events);
      problems.solved('chardev');
    } catch (error) {
      problems.report('chardev', error);
      timers.after(this.#delayMs, () => this.open(events));
      this.#delayMs = Math.min(2 * this.#delayMs, LAST_RETRY_MS);
    }
    this.#tried = true;
    if (isFirst || chardev.tty !== undefined) onTried();
  }
}
