/**
 * A program in dom0 that connects to a channel's socket: knows exactly what the kernel took from it, and reads all that
 * was sent to it, also when its writing fails because the other side has gone.
 */
import { readSync, writeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';

export class HostClient {
  readonly #socket: Socket;
  readonly #onBytes: (bytes: Uint8Array) => void;
  #fd = -1;
  #state: 'dialling' | 'connected' | 'over' = 'dialling';
  #broken = false;
  #ended = false;

  constructor(path: string, onBytes: (bytes: Uint8Array) => void) {
    this.#onBytes = onBytes;
    const socket = connect({ path, allowHalfOpen: true });
    this.#socket = socket;
    socket.on('connect', () => {
      this.#fd = (socket as unknown as { _handle: { fd: number } })._handle.fd;
      this.#state = 'connected';
    });
    socket.on('data', (bytes: Buffer) => this.#onBytes(bytes));
    // The end comes after the last byte, and so does ECONNRESET.
    for (const event of ['end', 'error', 'close']) {
      socket.on(event, () => {
        // From here on the descriptor may be somebody else's.
        this.#state = 'over';
        this.#readAhead();
        socket.destroy();
      });
    }
  }

  get connected(): boolean {
    return this.#state === 'connected';
  }

  /** Nothing more will come, and all that came was given to `onBytes`. */
  get over(): boolean {
    return this.#state === 'over';
  }

  /** It still may write. */
  get writable(): boolean {
    return this.connected && !this.#broken && !this.#ended;
  }

  /** Returns how many bytes the kernel took. A plain write(2): Node's own would destroy a socket that still has bytes. */
  write(bytes: Uint8Array): number {
    if (!this.writable) return 0;
    try {
      return writeSync(this.#fd, bytes);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') return 0;
      if (code !== 'EPIPE' && code !== 'ECONNRESET') throw error;
      this.#broken = true;
      return 0;
    }
  }

  /** Half-close: says that it will write no more, and goes on reading. */
  endInput(): void {
    if (!this.writable) return;
    this.#ended = true;
    this.#socket.end();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Leaves at once. `drain`: reads what is there before. */
  leave({ drain }: { readonly drain: boolean }): void {
    if (drain && this.connected) this.#readNow();
    this.#socket.destroy();
    this.#state = 'over';
  }

  /** What Node has taken from a socket that was paused; a reset comes before it is asked for. */
  #readAhead(): void {
    this.#socket.removeAllListeners('data');
    this.#socket.pause();
    for (let chunk = this.#socket.read() as Buffer | null; chunk !== null; chunk = this.#socket.read())
      this.#onBytes(chunk);
  }

  #readNow(): void {
    this.#readAhead();
    const buffer = Buffer.allocUnsafe(65536);
    try {
      for (;;) {
        const count = readSync(this.#fd, buffer, 0, buffer.length, null);
        if (count === 0) return;
        this.#onBytes(Buffer.from(buffer.subarray(0, count)));
      }
    } catch {
      // EAGAIN or ECONNRESET: that was all.
    }
  }
}
