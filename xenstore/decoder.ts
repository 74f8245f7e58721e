/**
 * Turns a byte stream into xenstore messages, however it was split. Knows no socket.
 */
import { XenstoreError } from './errors.js';
import { decodeHeader, HEADER_BYTES, MAX_PAYLOAD_BYTES, type Message } from './wire.js';

export class MessageDecoder {
  #rest: Buffer | undefined;

  /**
   * Calls `onMessage` for every message that `chunk` completes. Payloads are views of the received bytes: valid for
   * good, never written again by the decoder.
   * Throws XenstoreError `protocol` when a peer announces an over-long payload: there is no way to find the next header.
   */
  push(chunk: Buffer, onMessage: (message: Message) => void): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = undefined;
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      const header = decodeHeader(bytes, at);
      if (header.payloadBytes > MAX_PAYLOAD_BYTES) {
        throw new XenstoreError(
          'protocol',
          `xenstore message of ${header.payloadBytes} bytes, limit ${MAX_PAYLOAD_BYTES}`,
        );
      }
      const end = at + HEADER_BYTES + header.payloadBytes;
      if (bytes.length < end) break;
      const { type, requestId, transactionId } = header;
      onMessage({ type, requestId, transactionId, payload: bytes.subarray(at + HEADER_BYTES, end) });
      at = end;
    }
    // A copy, so that one unfinished byte does not keep a whole 64 KiB chunk alive.
    if (at < bytes.length) this.#rest = at === 0 ? bytes : Buffer.from(bytes.subarray(at));
  }

  /** Bytes of an unfinished message. */
  get pendingBytes(): number {
    return this.#rest?.length ?? 0;
  }
}
