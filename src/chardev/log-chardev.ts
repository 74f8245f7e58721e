/**
 * A log file as the only host end of a channel: everything that the guest says goes there, nothing comes back. Knows
 * nothing of rings.
 */
import type { Chardev, ChardevEvents, CloseOptions } from './chardev.js';
import { LogFile, type LogFileOptions } from './log-file.js';

const NOTHING = Buffer.alloc(0);

export class LogFileChardev implements Chardev {
  readonly label: string;
  readonly viewed = false;
  readonly #file: LogFile;
  #events: ChardevEvents | undefined;
  #state: 'new' | 'open' | 'closed' = 'new';
  #refused = false;
  /** What an orderly close waits for. */
  #onRoom: () => void = () => {};

  constructor(options: LogFileOptions) {
    this.#file = new LogFile(options);
    this.label = `log:${options.path}`;
  }

  /** As long as it is open, also while the disk is full: then the session's spool fills, and says what it drops. */
  get connected(): boolean {
    return this.#state === 'open';
  }

  get unconfirmedBytes(): number {
    return this.#file.queuedBytes;
  }

  async open(events: ChardevEvents): Promise<void> {
    if (this.#state !== 'new') return;
    this.#file.open(() => this.#progress());
    this.#events = events;
    this.#state = 'open';
    // Never inside a call of the session.
    queueMicrotask(() => {
      if (this.#state === 'open') events.onClient(true);
    });
  }

  write(bytes: Uint8Array): number {
    if (this.#state !== 'open') return 0;
    const taken = Math.min(bytes.length, this.#file.room);
    this.#refused = taken < bytes.length;
    if (taken > 0) this.#file.append(bytes.subarray(0, taken));
    return taken;
  }

  show(): void {}
  pauseInput(): void {}
  resumeInput(): void {}

  /** A disk never keeps anybody waiting: what a full one did not take comes back. */
  async close({ tail = NOTHING }: CloseOptions = {}): Promise<Uint8Array> {
    if (this.#state !== 'open') {
      const neverOpened = this.#state === 'new';
      this.#state = 'closed';
      return neverOpened ? tail : NOTHING;
    }
    this.#events = undefined;
    let written = this.write(tail);
    while (written < tail.length && !this.#file.failing && this.connected) {
      await new Promise<void>((settle) => {
        this.#onRoom = settle;
      });
      written += this.write(tail.subarray(written));
    }
    this.#state = 'closed';
    return Buffer.concat([await this.#file.close(), tail.subarray(written)]);
  }

  abandon(): void {
    this.#state = 'closed';
    this.#file.abandon();
    this.#onRoom();
  }

  figures(): Readonly<Record<string, number | string | boolean>> {
    return { connected: this.connected, ...this.#file.figures() };
  }

  #progress(): void {
    this.#onRoom();
    const written = this.#file.queuedBytes === 0;
    if (!written && (!this.#refused || this.#file.room === 0)) return;
    this.#refused = false;
    // A failure is told from inside `write`, too.
    queueMicrotask(() => {
      if (this.#state === 'open') this.#events?.onWritable();
    });
  }
}
