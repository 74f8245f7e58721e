/**
 * A tty line in memory, always raw: for tests and benchmarks of the ring without PTYs. The test is the application.
 */
import type { TtyEvents, TtyMaker, TtyPort } from './tty-port.js';

/** As much as a PTY takes before its reader must come. */
const LIMIT_BYTES = 4096;

export class MemoryTty implements TtyPort {
  readonly path = undefined;
  readonly #events: TtyEvents;
  #open = false;
  #reading = true;
  #gone = false;
  #toDriver: Buffer[] = [];
  #toApplication: Buffer[] = [];
  #held = 0;
  #writeBlocked = false;

  constructor(events: TtyEvents) {
    this.#events = events;
  }

  // --- the application -----------------------------------------------------------------------------------------------

  openLine(): void {
    if (this.#gone) throw new Error('ENODEV');
    this.#open = true;
    this.#events.onOpen();
  }

  closeLine(): void {
    this.#open = false;
    this.#toApplication = [];
    this.#held = 0;
    if (!this.#gone) this.#events.onLastClose();
  }

  /** An application's write; all of it waits until the driver takes it. */
  send(bytes: Uint8Array | string): void {
    if (this.#gone) throw new Error('EIO');
    this.#toDriver.push(Buffer.from(bytes as Uint8Array));
    if (this.#reading) this.#events.onReadable();
  }

  /** Takes all that has arrived; 'end' after the line was hung up and emptied. */
  receive(): Buffer | 'end' {
    if (this.#gone && this.#held === 0) return 'end';
    const bytes = Buffer.concat(this.#toApplication);
    this.#toApplication = [];
    this.#held = 0;
    if (this.#writeBlocked && !this.#gone) {
      this.#writeBlocked = false;
      this.#events.onWritable();
    }
    return bytes;
  }

  /** Bytes that wait for `receive`. */
  get heldBytes(): number {
    return this.#held;
  }

  /** Bytes the driver has not taken. */
  get unsentBytes(): number {
    return this.#toDriver.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  // --- the driver ----------------------------------------------------------------------------------------------------

  get isOpen(): boolean {
    return this.#open;
  }

  read(target: Uint8Array): number {
    const head = this.#toDriver[0];
    if (head === undefined) return 0;
    const count = Math.min(head.length, target.length);
    target.set(head.subarray(0, count));
    if (count === head.length) this.#toDriver.shift();
    else this.#toDriver[0] = head.subarray(count);
    return count;
  }

  write(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, LIMIT_BYTES - this.#held);
    if (count > 0) this.#toApplication.push(Buffer.from(bytes.subarray(0, count)));
    this.#held += count;
    this.#writeBlocked = count < bytes.length;
    return count;
  }

  setReading(reading: boolean): void {
    this.#reading = reading;
  }

  hangUp(): void {
    this.#gone = true;
    this.#open = false;
  }
}

/** `lines` collects every line in the order in which the kernel made them. */
export function memoryTtys(): TtyMaker & { readonly lines: MemoryTty[] } {
  const lines: MemoryTty[] = [];
  return {
    lines,
    make(events) {
      const line = new MemoryTty(events);
      lines.push(line);
      return line;
    },
    close() {},
  };
}
