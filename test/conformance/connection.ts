/**
 * One connection of a script: sends requests as bytes, keeps what comes back in order, knows when everything that was
 * under way has arrived. Knows neither scripts nor which daemon is behind.
 */
import { Op } from '../../xenstore/wire.js';
import type { Received } from './notation.js';

/** The bytes of one connection, whatever carries them. */
export interface Wire {
  send(bytes: Buffer): void;
  onBytes(listener: (bytes: Buffer) => void): void;
  onClosed(listener: () => void): void;
  /** Stops and starts taking bytes from the daemon. */
  pause(): void;
  resume(): void;
  close(): void;
}

const HEADER_BYTES = 16;
/** Requests of the runner itself have ids from here on; scripts stay below. */
const BARRIER = 0xb0000000;

export class Connection {
  readonly #wire: Wire;
  /** Turns one message into the pieces in which it is sent. */
  readonly #split: (bytes: Buffer) => Buffer[];
  #rest: Buffer = Buffer.alloc(0);
  #inbox: Received[] = [];
  #barriers = 0;
  #wake: () => void = () => {};
  closed = false;
  paused = false;

  constructor(wire: Wire, split: (bytes: Buffer) => Buffer[] = (bytes) => [bytes]) {
    this.#wire = wire;
    this.#split = split;
    wire.onBytes((bytes) => this.#take(bytes));
    wire.onClosed(() => {
      this.closed = true;
      this.#wake();
    });
  }

  /** Unlike the product's decoder this one takes messages of any length: oxenstored sends some beyond the limit. */
  #take(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + this.#rest.readUInt32LE(12);
      if (this.#rest.length < end) break;
      this.#inbox.push({
        type: this.#rest.readUInt32LE(0),
        requestId: this.#rest.readUInt32LE(4),
        transactionId: this.#rest.readUInt32LE(8),
        payload: this.#rest.subarray(HEADER_BYTES, end),
      });
      this.#rest = this.#rest.subarray(end);
    }
    this.#wake();
  }

  send(messages: readonly (Received & { claimedBytes?: number | undefined })[]): void {
    const bytes = messages.map((message) => {
      const header = Buffer.alloc(HEADER_BYTES);
      const { type, requestId, transactionId, payload, claimedBytes = payload.length } = message;
      for (const [index, field] of [type, requestId, transactionId, claimedBytes].entries())
        header.writeUInt32LE(field, index * 4);
      return Buffer.concat([header, payload]);
    });
    for (const piece of this.#split(Buffer.concat(bytes))) this.#wire.send(piece);
  }

  /** Waits until `count` replies (not events) have come, the connection is closed, or time is up: which of them. */
  async replies(count: number, timeoutMs: number): Promise<'answered' | 'closed' | 'silence'> {
    const answered = () => this.#inbox.filter((message) => message.type !== Op.WatchEvent).length >= count;
    return this.#until(answered, timeoutMs);
  }

  /**
   * Waits until the daemon has sent all it had to say: it answers requests of one connection in order, so what comes
   * before the answer to a harmless request is complete.
   */
  async settle(timeoutMs: number): Promise<'answered' | 'closed' | 'silence'> {
    if (this.closed || this.paused) return 'answered';
    this.#barriers += 1;
    const requestId = BARRIER + this.#barriers;
    this.send([{ type: Op.GetDomainPath, requestId, transactionId: 0, payload: Buffer.from('0\0') }]);
    const isBarrier = (message: Received) => message.requestId === requestId && message.type !== Op.WatchEvent;
    const result = await this.#until(() => this.#inbox.some(isBarrier), timeoutMs);
    this.#inbox = this.#inbox.filter((message) => !isBarrier(message));
    return result;
  }

  async #until(done: () => boolean, timeoutMs: number): Promise<'answered' | 'closed' | 'silence'> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#wake();
    }, timeoutMs);
    while (!done() && !this.closed && !late) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    clearTimeout(timer);
    if (done()) return 'answered';
    return this.closed ? 'closed' : 'silence';
  }

  /** All messages that have come since the last call. */
  take(): Received[] {
    const messages = this.#inbox;
    this.#inbox = [];
    return messages;
  }

  pause(): void {
    this.paused = true;
    this.#wire.pause();
  }

  resume(): void {
    this.paused = false;
    this.#wire.resume();
  }

  close(): void {
    this.closed = true;
    this.#wire.close();
  }
}
