/**
 * Collects the messages for one connection during one batch, to be sent as one piece. Knows the wire format, no socket.
 */

import { HEADER_BYTES } from '../wire.js';
import { putText } from './latin1.js';

const FIRST_BYTES = 4096;
/** Larger buffers are not kept for the next batch. */
const MAX_POOLED_BYTES = 256 * 1024;
const MAX_POOLED = 32;
/** Below this, a loop is faster than the call into the runtime. */
const SHORT_STRING = 20;

export class Output {
  #bytes: Buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get capacity(): number {
    return this.#bytes.length;
  }

  /** A copy of what was collected, from that byte on; the collector is empty afterwards. */
  take(from = 0): Buffer {
    const bytes = Buffer.allocUnsafe(this.#length - from);
    this.#bytes.copy(bytes, 0, from, this.#length);
    this.#length = 0;
    return bytes;
  }

  /** Shows what was collected, for the time of the call. */
  offer(tryWrite: (bytes: Buffer, length: number) => number): number {
    return tryWrite(this.#bytes, this.#length);
  }

  discard(): void {
    this.#length = 0;
  }

  /** A message whose payload is `text`, a latin-1 string. */
  message(type: number, requestId: number, transactionId: number, text: string): void {
    const at = this.#header(type, requestId, transactionId, text.length);
    this.#text(text, at);
  }

  /** A watch event: `path|token|`. */
  event(type: number, path: string, token: string): void {
    const at = this.#header(type, 0, 0, path.length + token.length + 2);
    const afterPath = this.#text(path, at);
    this.#bytes[afterPath] = 0;
    this.#bytes[this.#text(token, afterPath + 1)] = 0;
  }

  #header(type: number, requestId: number, transactionId: number, payloadBytes: number): number {
    const at = this.#length;
    const end = at + HEADER_BYTES + payloadBytes;
    if (end > this.#bytes.length) this.#grow(end);
    const bytes = this.#bytes;
    putUInt32(bytes, at, type);
    putUInt32(bytes, at + 4, requestId);
    putUInt32(bytes, at + 8, transactionId);
    putUInt32(bytes, at + 12, payloadBytes);
    this.#length = end;
    return at + HEADER_BYTES;
  }

  #text(text: string, at: number): number {
    const bytes = this.#bytes;
    const { length } = text;
    if (length > SHORT_STRING) putText(bytes, text, at);
    else for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i);
    return at + length;
  }

  #grow(needed: number): void {
    let size = this.#bytes.length;
    while (size < needed) size *= 2;
    const grown = Buffer.allocUnsafeSlow(size);
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

function putUInt32(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** Collectors not in use, so that a batch allocates only what it sends. */
export class OutputPool {
  readonly #free: Output[] = [];

  get(): Output {
    return this.#free.pop() ?? new Output();
  }

  put(output: Output): void {
    output.discard();
    if (this.#free.length < MAX_POOLED && output.capacity <= MAX_POOLED_BYTES) this.#free.push(output);
  }
}
