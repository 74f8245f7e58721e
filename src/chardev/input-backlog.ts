/**
 * Input of a client on its way to a session that may have enough for now: in order, bounded, and handed over even after
 * the client has gone. Knows neither of them.
 */

/** Input of clients that have gone, waiting for room toward the guest. */
export const MAX_BACKLOG_BYTES = 1024 * 1024;

export class InputBacklog {
  readonly #deliver: (bytes: Uint8Array) => void;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #dropped = 0;
  #paused = false;

  constructor(deliver: (bytes: Uint8Array) => void) {
    this.#deliver = deliver;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** True when the client need not wait: nothing older stands in front of what it sends. */
  get clear(): boolean {
    return !this.#paused && this.#pieces.length === 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get droppedBytes(): number {
    return this.#dropped;
  }

  pause(): void {
    this.#paused = true;
  }

  push(bytes: Uint8Array): void {
    if (this.clear) this.#deliver(bytes);
    else if (this.#bytes + bytes.length > MAX_BACKLOG_BYTES) this.#dropped += bytes.length;
    else {
      this.#pieces.push(Buffer.from(bytes));
      this.#bytes += bytes.length;
    }
  }

  /** What waits goes first: `deliver` hands it over, at a time when the session may be called. */
  resume(): void {
    this.#paused = false;
  }

  /** Hands over what waits until it is paused again. */
  deliver(): void {
    while (!this.#paused && this.#next());
  }

  /** The end: hands over everything, paused or not. */
  flush(): void {
    while (this.#next());
  }

  #next(): boolean {
    const bytes = this.#pieces.shift();
    if (bytes === undefined) return false;
    this.#bytes -= bytes.length;
    this.#deliver(bytes);
    return true;
  }
}
