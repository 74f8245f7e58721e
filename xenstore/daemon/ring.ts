/**
 * Serves one domain over its shared page, as a genuine daemon does: one connection, requests read only while the domain
 * reads its answers, and a domain that breaks the rules is told so in the page and not looked at again.
 * Source: xen:tools/xenstore/xenstored_domain.c (domain_can_read, readchn, writechn, domain_conn_reset, ignore_connection).
 */
import { RingConnection, RingError, type RingErrorNumber, RingFeature, RingPage } from '../ring.js';
import { decodeHeader, HEADER_BYTES, Op } from '../wire.js';
import type { EngineConnection, XenstoreEngine } from './engine.js';

export interface RingServerOptions {
  readonly engine: XenstoreEngine;
  /** An introduced domain. */
  readonly domid: number;
  readonly page: Uint8Array;
  /** Rings the domain; may be called from inside `poll`. */
  readonly notify: () => void;
  /** The domain is gone: nothing will be answered any more. */
  readonly onGone?: () => void;
}

export interface RingCounters {
  /** Watch events that were thrown away because the domain does not read. */
  droppedEvents: number;
  reconnects: number;
}

/** What may wait for a domain that does not read, with this much more for each piece. */
const MAX_WAITING_BYTES = 2 * 1024 * 1024;
const PIECE_BYTES = 128;

export class RingServer {
  readonly counters: RingCounters = { droppedEvents: 0, reconnects: 0 };
  readonly #options: RingServerOptions;
  readonly #page: RingPage;
  #connection: EngineConnection | undefined;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  /** The engine keeps further messages, so that equal events become one as they do in a genuine daemon. */
  #held = false;
  #closed = false;
  /** Messages are written where `poll` is at work anyway. */
  #polling = false;

  /** Empties the rings. Throws XenstoreError ENOENT for a domain that is not introduced. */
  constructor(options: RingServerOptions) {
    this.#options = options;
    this.#page = new RingPage(options.page);
    this.#page.features = options.engine.ringFeatures;
    this.#connect();
  }

  /** Whether the daemon has stopped to look at this ring; the page says why. */
  get ignored(): boolean {
    return this.#connection === undefined;
  }

  /** Bytes that wait for the domain to make space. */
  get waitingBytes(): number {
    return this.#waitingBytes + (this.#connection?.waitingBytes ?? 0);
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
    this.#connection = engine.connect(
      domid,
      (bytes) => this.#send(bytes),
      // A domain that is gone needs no explanation.
      () => (engine.isIntroduced(domid) ? this.#ignore(RingError.protocol) : this.#gone()),
    );
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
    this.counters.reconnects++;
    this.#connect();
  }

  #drop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#held = false;
    connection?.close();
  }

  #ignore(reason: RingErrorNumber): void {
    this.#drop();
    if ((this.#page.features & RingFeature.error) !== 0) this.#page.error = reason;
    if (!this.#polling) this.#options.notify();
  }

  /** Whether anything was read or written. */
  #work(): boolean {
    let changed = false;
    while (this.#connection !== undefined) {
      if (this.#writeWaiting()) changed = true;
      if (this.#waiting.length > 0) this.#hold();
      if (this.#waiting.length > 0 || this.#connection === undefined) break;
      if (this.#held) {
        this.#held = false;
        this.#connection.release();
        continue;
      }
      const requests = this.#page.requests.read();
      if (requests === undefined) this.#ignore(RingError.index);
      else if (requests.length === 0) break;
      else this.#connection.push(requests);
      changed = true;
    }
    return changed || this.#connection === undefined;
  }

  #send(bytes: Buffer): void {
    const kept = this.#waitingBytes + bytes.length > MAX_WAITING_BYTES ? this.#withoutEvents(bytes) : bytes;
    if (kept.length === 0) return;
    this.#waiting.push(kept);
    this.#waitingBytes += kept.length + PIECE_BYTES;
    if (!this.#polling && this.#writeWaiting()) this.#options.notify();
    if (this.#waiting.length > 0 && !this.#polling) this.#hold();
  }

  #hold(): void {
    this.#held = true;
    this.#connection?.hold();
  }

  /** The replies in a batch of whole messages: there are as many of them as requests have been read. */
  #withoutEvents(bytes: Buffer): Buffer {
    const kept: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const { type, payloadBytes } = decodeHeader(bytes, at);
      const end = at + HEADER_BYTES + payloadBytes;
      if (type === Op.WatchEvent) this.counters.droppedEvents++;
      else kept.push(bytes.subarray(at, end));
      at = end;
    }
    return Buffer.concat(kept);
  }

  /** Whether anything was written. */
  #writeWaiting(): boolean {
    let done = 0;
    let wrote = false;
    for (const piece of this.#waiting) {
      const written = this.#page.responses.write(piece);
      if (written === undefined) {
        this.#ignore(RingError.index);
        return true;
      }
      if (written > 0) wrote = true;
      if (written < piece.length) {
        this.#waiting[done] = piece.subarray(written);
        this.#waitingBytes -= written;
        break;
      }
      this.#waitingBytes -= written + PIECE_BYTES;
      done++;
    }
    if (done > 0) this.#waiting.splice(0, done);
    return wrote;
  }
}
