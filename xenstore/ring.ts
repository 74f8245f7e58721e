/**
 * The page that a domain shares with xenstored: two rings of bytes and a few words. Reads and writes it; decides nothing.
 * Nothing in it is trusted, not even one's own indices: the other side can write everywhere.
 * Source: xen:docs/misc/xenstore-ring.txt, xen:xen/include/public/io/xs_wire.h (xenstore_domain_interface).
 */

export const RING_PAGE_BYTES = 4096;
/** XENSTORE_RING_SIZE, of each direction. */
export const RING_BYTES = 1024;

const REQUESTS_AT = 0;
const RESPONSES_AT = 1024;
/** Offsets of the words; all are unsigned, little-endian, 32 bits. */
const WORD = {
  requestConsumer: 2048,
  requestProducer: 2052,
  responseConsumer: 2056,
  responseProducer: 2060,
  features: 2064,
  connection: 2068,
  error: 2072,
} as const;

/** What a daemon can do (XENSTORE_SERVER_FEATURE_*). */
export const RingFeature = { reconnection: 1, error: 2, watchDepth: 4, domidAny: 8 } as const;
/** XENSTORE_CONNECTED, XENSTORE_RECONNECT. */
export const RingConnection = { connected: 0, reconnecting: 1 } as const;
/** Why the daemon does not look at the ring any more (XENSTORE_ERROR_*). */
export const RingError = { none: 0, communication: 1, index: 2, protocol: 3 } as const;
export type RingErrorNumber = (typeof RingError)[keyof typeof RingError];

/** One direction. */
export class ByteRing {
  readonly #bytes: Uint8Array;
  readonly #words: DataView;
  readonly #dataAt: number;
  readonly #consumerAt: number;
  readonly #producerAt: number;

  constructor(page: Uint8Array, words: DataView, dataAt: number, consumerAt: number, producerAt: number) {
    this.#bytes = page;
    this.#words = words;
    this.#dataAt = dataAt;
    this.#consumerAt = consumerAt;
    this.#producerAt = producerAt;
  }

  /** Takes out at most `limitBytes`; undefined when the indices are such as no correct peer can have. */
  read(limitBytes = RING_BYTES): Buffer | undefined {
    const consumer = this.#words.getUint32(this.#consumerAt, true);
    const producer = this.#words.getUint32(this.#producerAt, true);
    const used = (producer - consumer) >>> 0;
    if (used > RING_BYTES) return undefined;
    const count = Math.min(used, limitBytes);
    const taken = Buffer.allocUnsafe(count);
    const start = consumer % RING_BYTES;
    const first = Math.min(count, RING_BYTES - start);
    taken.set(this.#bytes.subarray(this.#dataAt + start, this.#dataAt + start + first));
    taken.set(this.#bytes.subarray(this.#dataAt, this.#dataAt + count - first), first);
    this.#words.setUint32(this.#consumerAt, (consumer + count) >>> 0, true);
    return taken;
  }

  /** Puts in as much as there is space for and returns how much that was; undefined as in `read`. */
  write(data: Uint8Array): number | undefined {
    const consumer = this.#words.getUint32(this.#consumerAt, true);
    const producer = this.#words.getUint32(this.#producerAt, true);
    const used = (producer - consumer) >>> 0;
    if (used > RING_BYTES) return undefined;
    const count = Math.min(data.length, RING_BYTES - used);
    const start = producer % RING_BYTES;
    const first = Math.min(count, RING_BYTES - start);
    this.#bytes.set(data.subarray(0, first), this.#dataAt + start);
    this.#bytes.set(data.subarray(first, count), this.#dataAt);
    this.#words.setUint32(this.#producerAt, (producer + count) >>> 0, true);
    return count;
  }
}

export class RingPage {
  readonly requests: ByteRing;
  readonly responses: ByteRing;
  readonly #words: DataView;

  /** Throws RangeError when `page` has not the size of a page. */
  constructor(page: Uint8Array) {
    if (page.length !== RING_PAGE_BYTES)
      throw new RangeError(`a page has ${RING_PAGE_BYTES} bytes, not ${page.length}`);
    const words = new DataView(page.buffer, page.byteOffset, page.length);
    this.#words = words;
    this.requests = new ByteRing(page, words, REQUESTS_AT, WORD.requestConsumer, WORD.requestProducer);
    this.responses = new ByteRing(page, words, RESPONSES_AT, WORD.responseConsumer, WORD.responseProducer);
  }

  get features(): number {
    return this.#words.getUint32(WORD.features, true);
  }

  set features(bits: number) {
    this.#words.setUint32(WORD.features, bits, true);
  }

  get connection(): number {
    return this.#words.getUint32(WORD.connection, true);
  }

  set connection(state: number) {
    this.#words.setUint32(WORD.connection, state, true);
  }

  get error(): number {
    return this.#words.getUint32(WORD.error, true);
  }

  set error(number: number) {
    this.#words.setUint32(WORD.error, number, true);
  }

  /** Empties both rings, as the daemon does when a domain is introduced or connects again. */
  reset(): void {
    for (const at of [WORD.requestConsumer, WORD.requestProducer, WORD.responseConsumer, WORD.responseProducer]) {
      this.#words.setUint32(at, 0, true);
    }
  }
}
