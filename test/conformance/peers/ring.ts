/** A guest of our daemon on a shared page, in this process: the page is memory, the doorbells are calls. */

import type { XenstoreEngine } from '../../../xenstore/daemon/engine.js';
import { RingServer } from '../../../xenstore/daemon/ring.js';
import { RING_PAGE_BYTES, RingError, RingPage } from '../../../xenstore/ring.js';
import type { Wire } from '../connection.js';

/** The connection of an introduced domain. */
export function ringWire(engine: XenstoreEngine, domid: number): Wire {
  const guest = new RingGuest(engine, domid);
  return {
    send: (bytes) => guest.send(bytes),
    onBytes: (listener) => guest.listeners.push(listener),
    onClosed: (listener) => guest.closers.push(listener),
    pause: () => guest.pause(true),
    resume: () => guest.pause(false),
    close: () => guest.server.close(),
  };
}

class RingGuest {
  readonly server: RingServer;
  readonly listeners: ((bytes: Buffer) => void)[] = [];
  readonly closers: (() => void)[] = [];
  readonly #page: RingPage;
  #waiting: Buffer[] = [];
  #paused = false;
  #scheduled = false;

  constructor(engine: XenstoreEngine, domid: number) {
    const page = new Uint8Array(RING_PAGE_BYTES);
    this.#page = new RingPage(page);
    const options = { engine, domid, page, notify: () => this.#schedule(), onGone: () => this.#closed() };
    this.server = new RingServer(options);
  }

  send(bytes: Buffer): void {
    this.#waiting.push(bytes);
    this.#schedule();
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    this.#schedule();
  }

  /** Never inside a call of the daemon. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    const sent = this.#putRequests();
    const bytes = this.#paused ? undefined : this.#page.responses.read();
    if (bytes !== undefined && bytes.length > 0) for (const listener of this.listeners) listener(bytes);
    if (sent || (bytes !== undefined && bytes.length > 0)) {
      this.server.poll();
      this.#schedule();
    } else if (this.#page.error !== RingError.none) this.#closed();
  }

  #putRequests(): boolean {
    const waiting = Buffer.concat(this.#waiting);
    const written = this.#page.requests.write(waiting) ?? 0;
    this.#waiting = written < waiting.length ? [waiting.subarray(written)] : [];
    return written > 0;
  }

  #closed(): void {
    for (const closer of this.closers) closer();
  }
}
