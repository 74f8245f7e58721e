/** A program in the guest that has a channel's line open: over a line in memory, or over the agent's link to a PTY. */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import type { MemoryTty } from '../../src/simulation/memory-tty.js';

export interface GuestEnd {
  /** Returns how many bytes the line took; less than all when it is full. */
  write(bytes: Uint8Array): number;
  /** What has arrived, perhaps nothing. */
  read(): Uint8Array;
  /** Bytes the line has taken and the driver has not. */
  readonly unsent: number;
  /** The line was hung up. */
  readonly gone: boolean;
  /** Closes the line and opens it again, as a program that starts anew. */
  reopen(): void;
  close(): void;
}

const NOTHING = new Uint8Array(0);
/** A line that does not drain takes no more than a PTY would. */
const LINE_BYTES = 4096;

export class MemoryGuestEnd implements GuestEnd {
  readonly #tty: MemoryTty;
  gone = false;

  constructor(tty: MemoryTty) {
    this.#tty = tty;
    tty.openLine();
  }

  get unsent(): number {
    return this.#tty.unsentBytes;
  }

  write(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, LINE_BYTES - this.#tty.unsentBytes);
    if (count <= 0 || this.gone) return 0;
    try {
      this.#tty.send(bytes.subarray(0, count));
      return count;
    } catch {
      this.gone = true;
      return 0;
    }
  }

  read(): Uint8Array {
    const bytes = this.#tty.receive();
    if (bytes !== 'end') return bytes;
    this.gone = true;
    return NOTHING;
  }

  /** What arrived is read first: a line throws away what nobody has read when it is closed. */
  reopen(): void {
    if (this.gone || this.#tty.heldBytes > 0) return;
    this.#tty.closeLine();
    this.#tty.openLine();
  }

  close(): void {
    this.gone = true;
  }
}

export class PtyGuestEnd implements GuestEnd {
  readonly unsent = 0;
  readonly #path: string;
  readonly #buffer = Buffer.allocUnsafe(65536);
  #fd: number;
  gone = false;

  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  }

  write(bytes: Uint8Array): number {
    return this.#try(() => writeSync(this.#fd, bytes));
  }

  read(): Uint8Array {
    const count = this.#try(() => readSync(this.#fd, this.#buffer, 0, this.#buffer.length, null));
    return Buffer.from(this.#buffer.subarray(0, count));
  }

  /** The second descriptor first: at the last close the line would be cooked again. */
  reopen(): void {
    if (this.gone) return;
    const old = this.#fd;
    this.#fd = openSync(this.#path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    closeSync(old);
  }

  close(): void {
    if (this.#fd !== -1) closeSync(this.#fd);
    this.#fd = -1;
    this.gone = true;
  }

  #try(call: () => number): number {
    if (this.gone) return 0;
    try {
      return call();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EIO') this.gone = true;
      else if (code !== 'EAGAIN') throw error;
      return 0;
    }
  }
}
