/**
 * A tty line made of a real PTY: an application that opens the slave finds what it would find at /dev/hvcX (cooked and
 * echoing at first, reset at the last close). Knows no ring.
 */

import { OpenCloseWatcher } from '../sys/inotify.js';
import type { PollEvents } from '../sys/poll.js';
import { Pty } from '../sys/pty.js';
import type { TtyEvents, TtyMaker, TtyPort } from './tty-port.js';

class PtyTty implements TtyPort {
  readonly #pty = new Pty({ mode: 'cooked', holdSlave: false });
  readonly #events: TtyEvents;
  readonly #stopWatching: () => void;
  readonly #poll: { want(interest: { readable: boolean; writable: boolean }): void };
  #open = false;
  #reading = true;
  #writeBlocked = false;
  #wanted = 0;
  #gone = false;

  constructor(events: TtyEvents, watcher: OpenCloseWatcher) {
    this.#events = events;
    this.#poll = this.#pty.watch((ready) => this.#onPoll(ready));
    this.#stopWatching = watcher.watch(this.#pty.slavePath, () => this.#lookAgain());
  }

  get path(): string {
    return this.#pty.slavePath;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  read(target: Uint8Array): number {
    if (this.#gone) return 0;
    const count = this.#pty.read(target);
    return count === 'hung-up' ? 0 : count;
  }

  write(bytes: Uint8Array): number {
    if (this.#gone) return 0;
    const count = this.#pty.write(bytes);
    this.#writeBlocked = count < bytes.length;
    this.#updatePoll();
    return count;
  }

  setReading(reading: boolean): void {
    this.#reading = reading;
    this.#updatePoll();
  }

  hangUp(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#open = false;
    this.#stopWatching();
    this.#pty.close();
  }

  #onPoll(ready: PollEvents): void {
    if (ready.disconnect) this.#lookAgain();
    if (ready.writable && !this.#gone) {
      this.#writeBlocked = false;
      this.#updatePoll();
      this.#events.onWritable();
    }
    if (ready.readable && !this.#gone) this.#events.onReadable();
  }

  /** Somebody opened or closed the slave, perhaps both since the last look. */
  #lookAgain(): void {
    if (this.#gone) return;
    const open = this.#pty.isSlaveOpen();
    if (open && !this.#open) {
      this.#open = true;
      this.#updatePoll();
      this.#events.onOpen();
    } else if (!open) {
      const wasOpen = this.#open;
      this.#open = false;
      this.#writeBlocked = false;
      this.#updatePoll();
      this.#events.onReadable();
      this.#resetIfClosed(wasOpen);
      if (wasOpen && !this.#gone) this.#events.onLastClose();
    }
  }

  /**
   * TTY_DRIVER_RESET_TERMIOS. The reset opens the slave, which makes us look again: hence only when there is something
   * to reset. Somebody who opens it between the look and the reset loses the settings made so far; the kernel knows no
   * such gap, but it is microseconds wide.
   */
  #resetIfClosed(wasOpen: boolean): void {
    if (this.#gone || this.#pty.isSlaveOpen()) return;
    if (wasOpen || this.#pty.mode === 'raw') this.#pty.resetSlave('cooked');
  }

  /** While nobody has the slave open, a poll would call back without end. */
  #updatePoll(): void {
    if (this.#gone) return;
    const readable = this.#open && this.#reading;
    const writable = this.#open && this.#writeBlocked;
    const wanted = (readable ? 1 : 0) | (writable ? 2 : 0);
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    this.#poll.want({ readable, writable });
  }
}

/** One inotify instance for all lines: a user has 128 of them by default. */
export function ptyTtys(): TtyMaker {
  const watcher = new OpenCloseWatcher();
  return { make: (events) => new PtyTty(events, watcher), close: () => watcher.close() };
}
