/**
 * Pseudo terminals: a master to read and write without ever blocking, and the truth about whether anybody has the slave
 * open. Knows nothing of consoles or channels.
 */
import { constants } from 'node:fs';
import { ChannelError } from '../base/errors.js';
import { callFailed, lastErrno, loadKoffi } from './libc.js';
import { type DescriptorPoll, type PollEvents, type PollInterest, pollDescriptor } from './poll.js';
import { discardInput, setTtyMode, type TtyMode, ttyMode } from './termios.js';

export interface PtyOptions {
  readonly mode: TtyMode;
  /**
   * Keeps a descriptor of the slave: the line never hangs up between two users, and bytes written meanwhile wait for
   * the next one. Without it `isSlaveOpen` tells whether somebody else has it open.
   */
  readonly holdSlave: boolean;
}

/** O_CLOEXEC is not among Node's constants; the value is the same on every Linux that runs on Xen. */
const O_CLOEXEC = 0o2000000;
const OPEN_FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK | O_CLOEXEC;
const POLLIN = 1;
const POLLHUP = 16;

type Libc = {
  posix_openpt(flags: number): number;
  grantpt(fd: number): number;
  unlockpt(fd: number): number;
  ptsname_r(fd: number, buffer: Buffer, size: number): number;
  open(path: string, flags: number): number;
  close(fd: number): number;
  read(fd: number, buffer: Uint8Array, size: number): number;
  write(fd: number, buffer: Uint8Array, size: number): number;
  poll(fds: Buffer, count: number, timeoutMs: number): number;
};

let loaded: Libc | undefined;

function loadLibc(): Libc {
  if (loaded === undefined) {
    const library = loadKoffi().load('libc.so.6');
    loaded = {
      posix_openpt: library.func('int posix_openpt(int flags)') as never,
      grantpt: library.func('int grantpt(int fd)') as never,
      unlockpt: library.func('int unlockpt(int fd)') as never,
      ptsname_r: library.func('int ptsname_r(int fd, void *buffer, size_t size)') as never,
      open: library.func('int open(const char *path, int flags)') as never,
      close: library.func('int close(int fd)') as never,
      read: library.func('int64_t read(int fd, void *buffer, size_t size)') as never,
      write: library.func('int64_t write(int fd, const void *buffer, size_t size)') as never,
      poll: library.func('int poll(void *fds, ulong count, int timeout)') as never,
    };
  }
  return loaded;
}

export class Pty {
  readonly #libc = loadLibc();
  readonly #master: number;
  readonly #pollBuffer = Buffer.alloc(8);
  #slave: number | undefined;
  #poll: DescriptorPoll | undefined;
  #closed = false;
  /** `/dev/pts/N`. */
  readonly slavePath: string;

  /** Throws ChannelError `system-call-failed` (no PTYs left, no descriptors left) or `module-missing`. */
  constructor({ mode, holdSlave }: PtyOptions) {
    const { posix_openpt, grantpt, unlockpt, ptsname_r, close } = this.#libc;
    this.#master = posix_openpt(OPEN_FLAGS);
    if (this.#master < 0) throw callFailed('posix_openpt');
    try {
      const name = Buffer.alloc(64);
      if (grantpt(this.#master) !== 0) throw callFailed('grantpt');
      if (unlockpt(this.#master) !== 0) throw callFailed('unlockpt');
      if (ptsname_r(this.#master, name, name.length) !== 0) throw callFailed('ptsname_r');
      this.slavePath = name.toString('latin1', 0, name.indexOf(0));
      setTtyMode(this.#master, mode);
      // The kernel reports "no slave open" only after a first one was closed: this one, unless it is kept.
      this.#slave = this.#openSlave();
      if (!holdSlave) this.#closeSlave();
    } catch (error) {
      this.#closeSlave();
      close(this.#master);
      throw error;
    }
  }

  /** Whether somebody has the slave open now; always true with `holdSlave`. */
  isSlaveOpen(): boolean {
    this.#pollBuffer.writeInt32LE(this.#master, 0);
    this.#pollBuffer.writeInt32LE(POLLIN, 4);
    // Even without waiting it can be interrupted by a signal; the next one is a while away.
    while (this.#libc.poll(this.#pollBuffer, 1, 0) < 0) {
      if (lastErrno() !== 'EINTR') throw callFailed(`poll of the master of ${this.slavePath}`);
    }
    return (this.#pollBuffer.readInt16LE(6) & POLLHUP) === 0;
  }

  /** Reads what the slave's users wrote: the count, 0 when there is nothing now, 'hung-up' when nobody is left. */
  read(target: Uint8Array): number | 'hung-up' {
    const count = Number(this.#libc.read(this.#master, target, target.length));
    if (count > 0) return count;
    const errno = count === 0 ? 'EIO' : lastErrno();
    if (errno === 'EAGAIN' || errno === 'EINTR') return 0;
    if (errno === 'EIO') return 'hung-up';
    throw callFailed(`read of the master of ${this.slavePath}`, errno);
  }

  /** Writes to the slave's readers and returns how much was taken: less than all when they are slow. */
  write(bytes: Uint8Array): number {
    if (bytes.length === 0) return 0;
    const count = Number(this.#libc.write(this.#master, bytes, bytes.length));
    if (count >= 0) return count;
    const errno = lastErrno();
    if (errno === 'EAGAIN' || errno === 'EINTR' || errno === 'EIO') return 0;
    throw callFailed(`write to the master of ${this.slavePath}`, errno);
  }

  /**
   * Calls `onEvents` when the master is ready for what is wanted (at first nothing); once per PTY. While nobody has the
   * slave open, `disconnect` comes again and again: want nothing until somebody has.
   */
  watch(onEvents: (events: PollEvents) => void): { want(interest: PollInterest): void } {
    if (this.#poll !== undefined) throw new ChannelError('internal-bug', `${this.slavePath} is watched already`);
    this.#poll = pollDescriptor(this.#master, { readable: true }, onEvents);
    this.#poll.want({});
    return this.#poll;
  }

  /** What a tty driver does at the last close: default settings, and what nobody has read is gone. */
  resetSlave(mode: TtyMode): void {
    const slave = this.#openSlave();
    try {
      discardInput(slave);
      setTtyMode(slave, mode);
    } finally {
      this.#libc.close(slave);
    }
  }

  get mode(): TtyMode {
    return ttyMode(this.#master);
  }

  /** Hangs up: readers of the slave get end of file, writers EIO, the path vanishes. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#poll?.close();
    this.#closeSlave();
    this.#libc.close(this.#master);
  }

  #openSlave(): number {
    const fd = this.#libc.open(this.slavePath, OPEN_FLAGS);
    if (fd < 0) throw callFailed(`open of ${this.slavePath}`);
    return fd;
  }

  #closeSlave(): void {
    if (this.#slave !== undefined) this.#libc.close(this.#slave);
    this.#slave = undefined;
  }
}
