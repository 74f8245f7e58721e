/**
 * The slave of a PTY for a moment, opened by whoever has the master: to take back what nobody has read, and to stop
 * those who write. Knows nothing of what the line is used for.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { ChannelError } from '../base/errors.js';
import { callFailed, loadKoffi } from './libc.js';
import { setTtyMode, type TtyMode } from './termios.js';

/** O_NOCTTY: the daemon is often a session leader and must not end up with this line as its terminal. */
const OPEN_FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;
const READ_BYTES = 4096;
const TCOOFF = 0;
const POLLIN = 1;

type Libc = {
  tcflow(fd: number, action: number): number;
  poll(fds: Buffer, count: number, timeoutMs: number): number;
};

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded === undefined) {
    const library = loadKoffi().load('libc.so.6');
    loaded = {
      tcflow: library.func('int tcflow(int fd, int action)') as never,
      poll: library.func('int poll(void *fds, ulong count, int timeout)') as never,
    };
  }
  return loaded;
}

export class PtySlave {
  readonly #path: string;
  readonly #fd: number;

  /** Throws ChannelError `system-call-failed`. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, OPEN_FLAGS);
    } catch (cause) {
      throw new ChannelError('system-call-failed', `open of ${path} failed: ${String(cause)}`, { path }, { cause });
    }
  }

  setMode(mode: TtyMode): void {
    setTtyMode(this.#fd, mode);
  }

  /** From now on nobody can write to the line: who tries waits, or gets EAGAIN, until the line hangs up. */
  stopWriters(): void {
    if (libc().tcflow(this.#fd, TCOOFF) !== 0) throw callFailed(`tcflow of ${this.#path}`);
  }

  /** Whether bytes from the master wait for a reader; those still on their way through the kernel count. */
  hasUnread(): boolean {
    const buffer = Buffer.alloc(8);
    buffer.writeInt32LE(this.#fd, 0);
    buffer.writeInt16LE(POLLIN, 4);
    if (libc().poll(buffer, 1, 0) < 0) throw callFailed(`poll of ${this.#path}`);
    return (buffer.readInt16LE(6) & POLLIN) !== 0;
  }

  /** Takes what nobody has read. Only whole in raw mode: a line that edits gives whole lines only. */
  takeUnread(): Buffer {
    const pieces: Buffer[] = [];
    for (;;) {
      const piece = Buffer.allocUnsafe(READ_BYTES);
      const count = this.#read(piece);
      if (count === 0) return Buffer.concat(pieces);
      pieces.push(piece.subarray(0, count));
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #read(target: Buffer): number {
    try {
      return readSync(this.#fd, target, 0, target.length, null);
    } catch (error) {
      // EIO: the line hangs up; what waited is gone then.
      if (error instanceof Error && 'code' in error && (error.code === 'EAGAIN' || error.code === 'EIO')) return 0;
      throw error;
    }
  }
}
