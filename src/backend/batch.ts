/**
 * Where sessions collect what they drain before it goes to the client in one write. One buffer for all, because none is
 * used over a call. Knows nothing of what is in it.
 */
import { alignedBytes } from '../sys/memory.js';

/** One write(2) of this size costs about as much as one of a ring's 2048 bytes. */
export const BATCH_BYTES = 65536;

export class BatchBuffers {
  #idle: Uint8Array | undefined = alignedBytes(BATCH_BYTES);

  /** Another buffer when the one is in use: by a session whose guest, being rung, made this session work. */
  borrow(): Uint8Array {
    const buffer = this.#idle ?? alignedBytes(BATCH_BYTES);
    this.#idle = undefined;
    return buffer;
  }

  giveBack(buffer: Uint8Array): void {
    this.#idle = buffer;
  }
}
