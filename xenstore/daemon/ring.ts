/**
 * Serves one domain over its shared page, as a genuine daemon does: one connection, one request and one message at a
 * time, requests read only while the domain is within its limits, and a domain that breaks the rules is told so in the
 * page and not looked at again.
 * Source: xen:tools/xenstore/xenstored_domain.c (domain_can_read, readchn, writechn, domain_conn_reset, ignore_connection).
 */
import { type StoreClock, systemStoreClock } from '../client/options.js';
import { RingConnection, RingError, type RingErrorNumber, RingFeature, RingPage } from '../ring.js';
import { HEADER_BYTES, MAX_PAYLOAD_BYTES } from '../wire.js';
import type { QueuedConnection, XenstoreEngine } from './engine.js';

export interface RingServerOptions {
  readonly engine: XenstoreEngine;
  /** An introduced domain. */
  readonly domid: number;
  readonly page: Uint8Array;
  /** Rings the domain; may be called from inside `poll`. */
  readonly notify: () => void;
  /** The domain is gone: nothing will be answered any more. */
  readonly onGone?: () => void;
  /** For the age of events. */
  readonly clock?: StoreClock;
}

export interface RingCounters {
  /** Watch events that were thrown away because the domain does not read. */
  readonly droppedEvents: number;
  readonly reconnects: number;
}

const MAX_MESSAGE_BYTES = HEADER_BYTES + MAX_PAYLOAD_BYTES;
/** Where the header has the length of the payload. */
const LENGTH_AT = 12;

export class RingServer {
  readonly #options: RingServerOptions;
  readonly #clock: StoreClock;
  readonly #page: RingPage;
  #connection: QueuedConnection | undefined;
  /** The request that is being read. */
  readonly #request = Buffer.alloc(MAX_MESSAGE_BYTES);
  #requestBytes = 0;
  /** How much of it the engine has got. */
  #pushedBytes = 0;
  #closed = false;
  /** Messages are written where `poll` is at work anyway. */
  #polling = false;
  #ageTimer: { cancel(): void } | undefined;
  #reconnects = 0;
  /** By queues that are gone. */
  #droppedBefore = 0;

  /** Empties the rings. Throws XenstoreError ENOENT for a domain that is not introduced. */
  constructor(options: RingServerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemStoreClock;
    this.#page = new RingPage(options.page);
    this.#page.features = options.engine.ringFeatures;
    this.#connect();
  }

  get counters(): RingCounters {
    const droppedEvents = this.#droppedBefore + (this.#connection?.queue.droppedEvents ?? 0);
    return { droppedEvents, reconnects: this.#reconnects };
  }

  /** Whether the daemon has stopped to look at this ring; the page says why. */
  get ignored(): boolean {
    return this.#connection === undefined;
  }

  /** Bytes that wait for the domain to make space. */
  get waitingBytes(): number {
    return this.#connection?.queue.bytes ?? 0;
  }

  /** The domain rang, or may have. */
  poll(): void {
    if (this.#closed || this.#polling) return;
    this.#polling = true;
    let changed = false;
    try {
      const page = this.#page;
      if (page.connection !== RingConnection.connected && (page.features & RingFeature.reconnection) !== 0) {
        this.#reconnect();
        changed = true;
      }
      changed = this.#work() || changed;
    } finally {
      this.#polling = false;
    }
    if (changed) this.#options.notify();
    this.#connection?.delivered();
    this.#watchAge();
  }

  /** The daemon ends. */
  close(): void {
    this.#closed = true;
    this.#drop();
  }

  #gone(): void {
    this.close();
    this.#options.onGone?.();
  }

  #connect(): void {
    const { engine, domid } = this.#options;
    this.#connection = engine.connectQueued(domid, {
      onMessages: () => this.poll(),
      onHeard: () => this.poll(),
      // A domain that is gone needs no explanation.
      onClosedByServer: () => (engine.isIntroduced(domid) ? this.#ignore(RingError.protocol) : this.#gone()),
      now: () => this.#clock.now(),
    });
    this.#page.reset();
    this.#page.error = RingError.none;
    this.#page.connection = RingConnection.connected;
  }

  /** Watches and transactions go, too. */
  #reconnect(): void {
    this.#drop();
    if (!this.#options.engine.isIntroduced(this.#options.domid)) {
      this.#gone();
      return;
    }
    this.#reconnects++;
    this.#connect();
  }

  #drop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#requestBytes = 0;
    this.#pushedBytes = 0;
    this.#stopWatchingAge();
    this.#droppedBefore += connection?.queue.droppedEvents ?? 0;
    connection?.close();
  }

  #ignore(reason: RingErrorNumber): void {
    this.#drop();
    if ((this.#page.features & RingFeature.error) !== 0) this.#page.error = reason;
    if (!this.#polling) this.#options.notify();
  }

  /** In turn as the daemon's loop does it, so that an event is folded into an equal one only if that still waits. */
  #work(): boolean {
    let changed = false;
    while (this.#connection !== undefined) {
      const asked = this.#connection.isHeard && this.#readRequest();
      const told = this.#writeMessage();
      if (!asked && !told) return changed || this.#connection === undefined;
      changed = true;
    }
    return true;
  }

  /** What there is of one request; whether there was anything. */
  #readRequest(): boolean {
    const had = this.#requestBytes;
    if (this.#requestBytes < HEADER_BYTES && !this.#readUpTo(HEADER_BYTES)) return this.#requestBytes > had;
    const claimedBytes = this.#request.readUInt32LE(LENGTH_AT);
    if (claimedBytes > MAX_PAYLOAD_BYTES && this.#pushedBytes === 0) {
      // Some daemons refuse it now, others go on with what is allowed.
      this.#pushedBytes = HEADER_BYTES;
      this.#connection?.push(this.#request.subarray(0, HEADER_BYTES));
    }
    const end = HEADER_BYTES + Math.min(claimedBytes, MAX_PAYLOAD_BYTES);
    if (this.#requestBytes < end && !this.#readUpTo(end)) return this.#requestBytes > had;
    const rest = this.#request.subarray(this.#pushedBytes, end);
    this.#requestBytes = 0;
    this.#pushedBytes = 0;
    this.#connection?.push(rest);
    return true;
  }

  /** Whether so many bytes of the request are there. */
  #readUpTo(end: number): boolean {
    const bytes = this.#page.requests.read(end - this.#requestBytes);
    if (bytes === undefined) {
      this.#ignore(RingError.index);
      return false;
    }
    this.#request.set(bytes, this.#requestBytes);
    this.#requestBytes += bytes.length;
    return this.#requestBytes === end;
  }

  /** As much of one message as fits; whether anything did. */
  #writeMessage(): boolean {
    const queue = this.#connection?.queue;
    const message = queue?.next;
    if (queue === undefined || message === undefined) return false;
    const written = this.#page.responses.write(message);
    if (written === undefined) {
      this.#ignore(RingError.index);
      return true;
    }
    if (written > 0) queue.sent(written);
    return written > 0;
  }

  /** Has events that get too old thrown away. */
  #watchAge(): void {
    const queue = this.#connection?.queue;
    const nextMs = queue?.nextDeadlineMs;
    if (queue === undefined || nextMs === undefined) {
      this.#stopWatchingAge();
      return;
    }
    this.#ageTimer ??= this.#clock.after(Math.max(0, nextMs - this.#clock.now()), () => {
      this.#ageTimer = undefined;
      queue.expire();
      // Others may have waited for these events, and this domain for room.
      this.poll();
    });
  }

  #stopWatchingAge(): void {
    this.#ageTimer?.cancel();
    this.#ageTimer = undefined;
  }
}
