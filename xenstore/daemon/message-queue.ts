/**
 * The messages that wait for a domain to make space in its ring, one by one: equal events once, old events not at all.
 * Counts them for the domain's quotas. Knows no ring.
 * Source: xen:tools/xenstore/xenstored_core.c (send_reply, send_event, free_buffered_data, check_event_timeout).
 */
import { Fifo } from '../client/fifo.js';
import { HEADER_BYTES } from '../wire.js';
import type { Domain } from './domains.js';

const NEVER = Number.POSITIVE_INFINITY;

/** A request of a domain; it counts as outstanding until its answer and all events that it caused are delivered. */
export class Asked {
  readonly #domain: Domain;
  #events = 0;
  #isAnswered = false;
  #answerWaits = false;

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  /** Events of it wait for somebody. */
  get causes(): boolean {
    return this.#events > 0;
  }

  answered(): void {
    this.#isAnswered = true;
    this.#answerWaits = true;
    this.#domain.outstanding++;
  }

  /** Nothing of the answer waits. */
  answeredAtOnce(): void {
    this.answered();
    this.answerDelivered();
  }

  answerDelivered(): void {
    this.#answerWaits = false;
    this.#settle();
  }

  caused(): void {
    this.#events++;
  }

  eventDelivered(): void {
    this.#events--;
    this.#settle();
  }

  #settle(): void {
    if (!this.#isAnswered || this.#answerWaits || this.#events > 0) return;
    this.#isAnswered = false;
    this.#domain.outstanding--;
  }
}

interface QueuedMessage {
  readonly bytes: Buffer;
  /** What tells equal events; undefined of answers. */
  readonly key: string | undefined;
  /** An event that has not begun to be sent by then is not sent. */
  readonly deadlineMs: number;
  readonly asked: Asked | undefined;
}

export interface QueueOptions {
  readonly domain: Domain;
  readonly now: () => number;
  /** How long an event may wait. */
  readonly eventAgeMs: number;
}

export class MessageQueue {
  readonly #domain: Domain;
  readonly #now: () => number;
  readonly #eventAgeMs: number;
  #messages = new Fifo<QueuedMessage>();
  readonly #keys = new Set<string>();
  #bytes = 0;
  /** Of the first message. */
  #sentBytes = 0;
  /** Events thrown away because of their age or for want of room. */
  droppedEvents = 0;

  constructor({ domain, now, eventAgeMs }: QueueOptions) {
    this.#domain = domain;
    this.#now = now;
    this.#eventAgeMs = eventAgeMs;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes - this.#sentBytes;
  }

  reply(bytes: Buffer, asked: Asked | undefined): void {
    asked?.answered();
    this.#add({ bytes, key: undefined, deadlineMs: NEVER, asked });
  }

  /** Whether that event waits; `key` is its path and token with NUL in between. */
  has(key: string): boolean {
    return this.#keys.has(key);
  }

  /** The bytes of an event: path and token, each ended by NUL, after the header. */
  event(bytes: Buffer, asked: Asked | undefined): void {
    asked?.caused();
    const key = bytes.toString('latin1', HEADER_BYTES, bytes.length - 1);
    this.#keys.add(key);
    this.#add({ bytes, key, deadlineMs: this.#now() + this.#eventAgeMs, asked });
  }

  #add(message: QueuedMessage): void {
    this.#messages.push(message);
    this.#bytes += message.bytes.length;
    this.#domain.memory += message.bytes.length;
  }

  /** What is to be sent next of the first message; undefined when there is none. */
  get next(): Buffer | undefined {
    return this.#messages.peek()?.bytes.subarray(this.#sentBytes);
  }

  sent(bytes: number): void {
    this.#sentBytes += bytes;
    const first = this.#messages.peek();
    if (first === undefined || this.#sentBytes < first.bytes.length) return;
    this.#sentBytes = 0;
    this.#messages.shift();
    this.#release(first);
  }

  #release({ bytes, key, asked }: QueuedMessage): void {
    this.#bytes -= bytes.length;
    this.#domain.memory -= bytes.length;
    if (key === undefined) asked?.answerDelivered();
    else {
      this.#keys.delete(key);
      asked?.eventDelivered();
    }
  }

  /** When the oldest event will be too old; undefined when none ever will. */
  get nextDeadlineMs(): number | undefined {
    if (this.#eventAgeMs === NEVER) return undefined;
    const begun = this.#sentBytes > 0 ? this.#messages.peek() : undefined;
    return this.#messages.find((message) => message.deadlineMs !== NEVER && message !== begun)?.deadlineMs;
  }

  /** Drops events that are too old and have not begun to be sent. */
  expire(): void {
    const now = this.#now();
    for (const [index, message] of this.#messages.drain().entries()) {
      if (message.deadlineMs > now || (index === 0 && this.#sentBytes > 0)) this.#messages.push(message);
      else {
        this.droppedEvents++;
        this.#release(message);
      }
    }
  }

  clear(): void {
    this.#sentBytes = 0;
    for (const message of this.#messages.drain()) this.#release(message);
  }
}
