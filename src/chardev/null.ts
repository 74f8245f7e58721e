/**
 * A chardev that takes everything and keeps nothing: for a guest whose output nobody wants, but must not fill a spool
 * nor be counted as dropped. Says what it threw away.
 */
import type { Chardev, ChardevEvents, CloseOptions } from './chardev.js';

export class NullChardev implements Chardev {
  readonly label = 'null';
  readonly viewed = false;
  #open = false;
  #discardedBytes = 0;

  /** As a device that is always open: what is written to it is never missed. */
  get connected(): boolean {
    return this.#open;
  }

  async open(events: ChardevEvents): Promise<void> {
    this.#open = true;
    // Never inside a call of the session.
    queueMicrotask(() => {
      if (this.#open) events.onClient(true);
    });
  }

  write(bytes: Uint8Array): number {
    if (!this.#open) return 0;
    this.#discardedBytes += bytes.length;
    return bytes.length;
  }

  show(): void {}
  pauseInput(): void {}
  resumeInput(): void {}

  async close({ tail = new Uint8Array(0) }: CloseOptions = {}): Promise<Uint8Array> {
    const rest = tail.subarray(this.write(tail));
    this.#open = false;
    return rest;
  }

  abandon(): void {
    this.#open = false;
  }

  figures(): Readonly<Record<string, number | string | boolean>> {
    return { connected: this.#open, discardedBytes: this.#discardedBytes };
  }
}
