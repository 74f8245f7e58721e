/**
 * The byte stream under a client that is a domain's own kernel: the page it shares with xenstored. Decides nothing about
 * the protocol, and does not trust the daemon's indices either.
 * Source: linux:drivers/xen/xenbus/xenbus_comms.c (xb_read, xb_write), xen:docs/misc/xenstore-ring.txt.
 */
import { RingConnection, RingError, RingFeature, RingPage } from '../ring.js';
import type { StoreClock } from './options.js';
import type { Transport, TransportHandlers } from './transport.js';

export interface RingPort {
  readonly page: Uint8Array;
  /** Rings the daemon. */
  readonly notify: () => void;
  /** `handler` is called when the daemon rings; returns what ends that. */
  readonly onEvent: (handler: () => void) => () => void;
  readonly clock: StoreClock;
}

/** How long a daemon that can do it may take to make a ring fresh. */
const RECONNECT_TIMEOUT_MS = 5000;

/** For `ConnectOptions.via`. Only the first connection finds a fresh ring; for others the daemon has to help. */
export function ringOpener(port: RingPort): () => Promise<Transport> {
  const page = new RingPage(port.page);
  let used = false;
  return async () => {
    if (used) await makeFresh(page, port);
    used = true;
    return new RingTransport(page, port);
  };
}

async function makeFresh(page: RingPage, { clock, notify, onEvent }: RingPort): Promise<void> {
  if ((page.features & RingFeature.reconnection) === 0) throw new Error('this xenstored cannot reconnect a ring');
  await new Promise<void>((resolve, reject) => {
    const settle = (outcome: () => void): void => {
      stop();
      timer.cancel();
      outcome();
    };
    const stop = onEvent(() => {
      if (page.connection === RingConnection.connected) settle(resolve);
    });
    const timer = clock.after(RECONNECT_TIMEOUT_MS, () =>
      settle(() => reject(new Error(`xenstored has not reconnected the ring within ${RECONNECT_TIMEOUT_MS} ms`))),
    );
    page.connection = RingConnection.reconnecting;
    notify();
  });
}

class RingTransport implements Transport {
  readonly kind = 'ring';
  readonly #page: RingPage;
  readonly #port: RingPort;
  #handlers: TransportHandlers | undefined;
  #stop: () => void = () => {};
  /** Not yet in the ring. */
  #waiting: Buffer[] = [];

  constructor(page: RingPage, port: RingPort) {
    this.#page = page;
    this.#port = port;
  }

  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
    this.#stop = this.#port.onEvent(() => this.#poll());
    // The daemon may have rung before anybody listened.
    process.nextTick(() => this.#poll());
  }

  write(bytes: Buffer): boolean {
    if (this.#handlers === undefined) return true;
    this.#waiting.push(bytes);
    this.#writeWaiting();
    return this.#waiting.length === 0;
  }

  close(): Promise<void> {
    this.#handlers = undefined;
    this.#waiting = [];
    this.#stop();
    return Promise.resolve();
  }

  #poll(): void {
    const full = this.#waiting.length > 0;
    this.#writeWaiting();
    if (this.#handlers === undefined) return;
    const bytes = this.#page.responses.read();
    if (bytes === undefined) {
      this.#fail('xenstored published illegal ring indices');
      return;
    }
    if (bytes.length > 0) {
      this.#port.notify();
      this.#handlers.onData(bytes);
    }
    const { error } = this.#page;
    if (error !== RingError.none) this.#fail(`xenstored has stopped to serve the ring: error ${error}`);
    else if (full && this.#waiting.length === 0) this.#handlers?.onWritable();
  }

  #writeWaiting(): void {
    let wrote = false;
    for (let piece = this.#waiting[0]; piece !== undefined; piece = this.#waiting[0]) {
      const written = this.#page.requests.write(piece);
      if (written === undefined) {
        this.#fail('xenstored published illegal ring indices');
        return;
      }
      if (written > 0) wrote = true;
      if (written < piece.length) {
        this.#waiting[0] = piece.subarray(written);
        break;
      }
      this.#waiting.shift();
    }
    if (wrote) this.#port.notify();
  }

  #fail(sentence: string): void {
    const handlers = this.#handlers;
    void this.close();
    handlers?.onClosed(new Error(sentence));
  }
}
