/**
 * Turns a byte stream into xenstore messages, however it was split. Knows no socket.
 */
import { XenstoreError } from './errors.js';
import { decodeHeader, HEADER_BYTES, MAX_PAYLOAD_BYTES, type Message } from './wire.js';

/** How long a payload may be, by message type; both sides of the protocol allow 4096 bytes unless told otherwise. */
export type PayloadLimit = (type: number) => number;

const standardLimit: PayloadLimit = () => MAX_PAYLOAD_BYTES;

export class MessageDecoder {
  readonly #limitBytes: PayloadLimit;
  /** The beginning of an unfinished message: first 16 bytes of space, then exactly its size. */
  #partial: Buffer | undefined;
  #filledBytes = 0;

  constructor(limitBytes: PayloadLimit = standardLimit) {
    this.#limitBytes = limitBytes;
  }

  /**
   * Calls `onMessage` for every message that `chunk` completes. Payloads are views of the received bytes: valid for
   * good, never written again by the decoder. Each byte is copied at most once, however small the chunks are.
   * Throws XenstoreError `protocol` when a peer announces an over-long payload: there is no way to find the next
   * header, so the decoder must not be used again.
   */
  push(chunk: Buffer, onMessage: (message: Message) => void): void {
    let at = this.#partial === undefined ? 0 : this.#complete(chunk, onMessage);
    while (chunk.length - at >= HEADER_BYTES) {
      const end = at + this.#messageBytes(chunk, at);
      if (chunk.length < end) break;
      onMessage(toMessage(chunk, at, end));
      at = end;
    }
    if (at < chunk.length) this.#keep(chunk, at);
  }

  /** Bytes of an unfinished message. */
  get pendingBytes(): number {
    return this.#filledBytes;
  }

  /** Length of the message whose header is at `at`. */
  #messageBytes(bytes: Buffer, at: number): number {
    const { type, payloadBytes } = decodeHeader(bytes, at);
    const limitBytes = this.#limitBytes(type);
    if (payloadBytes > limitBytes) {
      throw new XenstoreError('protocol', `xenstore message of ${payloadBytes} bytes, limit ${limitBytes}`);
    }
    return HEADER_BYTES + payloadBytes;
  }

  /** Starts an unfinished message; a copy, so that one byte does not keep a whole 64 KiB chunk alive. */
  #keep(chunk: Buffer, at: number): void {
    const haveBytes = chunk.length - at;
    const needBytes = haveBytes < HEADER_BYTES ? HEADER_BYTES : this.#messageBytes(chunk, at);
    this.#partial = Buffer.allocUnsafe(needBytes);
    this.#filledBytes = chunk.copy(this.#partial, 0, at);
  }

  /** Adds bytes of `chunk` to the unfinished message; returns how many were used. */
  #complete(chunk: Buffer, onMessage: (message: Message) => void): number {
    let partial = this.#partial as Buffer;
    let used = chunk.copy(partial, this.#filledBytes);
    this.#filledBytes += used;
    if (this.#filledBytes === HEADER_BYTES && partial.length === HEADER_BYTES) {
      const wholeBytes = this.#messageBytes(partial, 0);
      if (wholeBytes > HEADER_BYTES) {
        const whole = Buffer.allocUnsafe(wholeBytes);
        partial.copy(whole);
        partial = this.#partial = whole;
        const more = chunk.copy(partial, HEADER_BYTES, used);
        used += more;
        this.#filledBytes += more;
      }
    }
    if (this.#filledBytes === partial.length) {
      this.#partial = undefined;
      this.#filledBytes = 0;
      onMessage(toMessage(partial, 0, partial.length));
    }
    return used;
  }
}

function toMessage(bytes: Buffer, at: number, end: number): Message {
  const { type, requestId, transactionId } = decodeHeader(bytes, at);
  return { type, requestId, transactionId, payload: bytes.subarray(at + HEADER_BYTES, end) };
}
