/** A chardev whose client is the test: it comes, goes, reads and writes when it is told to. */
import type { Chardev, ChardevEvents, CloseOptions } from '../../src/chardev/chardev.js';

export class FakeChardev implements Chardev {
  readonly label = 'fake';
  connected = false;
  viewed = false;
  paused = false;
  /** How many bytes the client's socket still takes. */
  room = Number.POSITIVE_INFINITY;
  closed = false;
  readonly shown: Uint8Array[] = [];
  readonly #received: Buffer[] = [];
  #events: ChardevEvents | undefined;
  /** What was written by the client and not yet handed over. */
  #outbox: Buffer[] = [];
  #blocked = false;
  writes = 0;

  async open(events: ChardevEvents): Promise<void> {
    this.#events = events;
  }

  /** As `open`, at once. */
  bind(events: ChardevEvents): this {
    this.#events = events;
    return this;
  }

  get received(): Buffer {
    return Buffer.concat(this.#received);
  }

  get outbox(): number {
    return this.#outbox.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  connect(): void {
    this.connected = true;
    this.#blocked = false;
    this.#events?.onClient(true);
  }

  /** The client goes; the last `returned` bytes that it had been given never reached it. */
  disconnect(returned = 0): void {
    this.connected = false;
    if (returned > 0) {
      const all = this.received;
      this.#received.splice(0, this.#received.length, all.subarray(0, all.length - returned));
      this.#events?.onReturned(all.subarray(all.length - returned));
    }
    this.#events?.onClient(false);
  }

  /** The client reads: there is room again. */
  makeRoom(bytes: number): void {
    this.room += bytes;
    if (!this.#blocked || !this.connected || this.room <= 0) return;
    this.#blocked = false;
    this.#events?.onWritable();
  }

  send(bytes: Uint8Array): void {
    this.#outbox.push(Buffer.from(bytes));
    this.#deliver();
  }

  write(bytes: Uint8Array): number {
    if (!this.connected) return 0;
    this.writes++;
    const count = Math.min(bytes.length, Math.max(0, this.room));
    this.room -= count;
    this.#received.push(Buffer.from(bytes.subarray(0, count)));
    if (count < bytes.length) this.#blocked = true;
    return count;
  }

  show(bytes: Uint8Array): void {
    this.shown.push(Buffer.from(bytes));
  }

  pauseInput(): void {
    this.paused = true;
  }

  resumeInput(): void {
    if (!this.paused) return;
    this.paused = false;
    queueMicrotask(() => this.#deliver());
  }

  async close({ tail = Buffer.alloc(0) }: CloseOptions = {}): Promise<Uint8Array> {
    const taken = this.write(tail);
    this.closed = true;
    this.connected = false;
    for (const bytes of this.#outbox.splice(0)) this.#events?.onInput(bytes);
    return tail.subarray(taken);
  }

  abandon(): void {
    this.closed = true;
    this.connected = false;
  }

  figures(): Readonly<Record<string, number | string | boolean>> {
    return { connected: this.connected };
  }

  #deliver(): void {
    while (!this.paused && !this.closed) {
      const bytes = this.#outbox.shift();
      if (bytes === undefined) return;
      this.#events?.onInput(bytes);
    }
  }
}
