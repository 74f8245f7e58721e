/**
 * Reads and writes many sockets with system calls of our own and without the runtime's streams: an epoll instance, of which
 * the event loop sees one descriptor. For a crowd: one socket alone is served better by the event loop. Knows no protocol.
 */
import { ChannelError } from '../base/errors.js';
import { loadKoffi } from './libc.js';
import { type DescriptorPoll, pollDescriptor } from './poll.js';

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL = { add: 1, remove: 2 } as const;
const EPOLLIN = 1;
/** struct epoll_event: packed on x86, and only there. */
const EVENT = process.arch === 'x64' || process.arch === 'ia32' ? { bytes: 12, idAt: 4 } : { bytes: 16, idAt: 8 };
const MAX_EVENTS = 64;
/** Before the event loop has its turn again: timers and signals must not wait long. */
const MAX_ROUNDS = 32;
export interface SocketWatch {
  /** Only while the descriptor is open. */
  pause(): void;
  resume(): void;
  /** The descriptor is closed: from then on its number may mean another file, and is not touched. */
  forget(): void;
}

/** Reads what there is; `together`: how many sockets had something at the same time. */
type Reader = (together: number) => void;

/** Undefined where koffi is not installed. */
export function openSocketIo(): SocketIo | undefined {
  try {
    return new SocketIo();
  } catch (error) {
    if (error instanceof ChannelError && error.code === 'module-missing') return undefined;
    throw error;
  }
}

export class SocketIo {
  readonly #calls = loadCalls();
  readonly #epoll: number;
  readonly #poll: DescriptorPoll;
  readonly #events = Buffer.alloc(EVENT.bytes * MAX_EVENTS);
  readonly #event = Buffer.alloc(EVENT.bytes);
  readonly #readers = new Map<number, Reader>();
  #lastId = 0;

  /** Throws ChannelError `module-missing` when koffi is not there. */
  constructor() {
    this.#epoll = this.#calls.create(EPOLL_CLOEXEC);
    this.#poll = pollDescriptor(this.#epoll, { readable: true }, () => this.#drain());
  }

  /** `read` is called again and again while there is something to read, or the other side is gone. */
  watch(fd: number, read: Reader): SocketWatch {
    const id = ++this.#lastId;
    this.#readers.set(id, read);
    this.#control(EPOLL_CTL.add, fd, id);
    return {
      // Without interest it would go on to report that the other side is gone.
      pause: () => this.#control(EPOLL_CTL.remove, fd, id),
      resume: () => this.#control(EPOLL_CTL.add, fd, id),
      forget: () => void this.#readers.delete(id),
    };
  }

  /** Bytes read, 0 at the end of the stream, or a negative errno. */
  read(fd: number, target: Uint8Array): number {
    return this.#calls.read(fd, target, target.length);
  }

  /** Bytes written, or a negative errno. */
  write(fd: number, source: Uint8Array, length: number): number {
    return this.#calls.write(fd, source, length);
  }

  close(): void {
    this.#poll.close();
    this.#calls.close(this.#epoll);
  }

  #control(what: number, fd: number, id: number): void {
    this.#event.writeUInt32LE(EPOLLIN, 0);
    this.#event.writeUInt32LE(id, EVENT.idAt);
    this.#calls.control(this.#epoll, what, fd, this.#event);
  }

  /** While several have something to say, without the way through the event loop for each. */
  #drain(): void {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const count = this.#calls.wait(this.#epoll, this.#events, MAX_EVENTS, 0);
      for (let i = 0; i < count; i++) {
        this.#readers.get(this.#events.readUInt32LE(i * EVENT.bytes + EVENT.idAt))?.(count);
      }
      if (count <= 1) return;
    }
  }
}

type Transfer = (fd: number, bytes: Uint8Array, length: number) => number;

function loadCalls() {
  const koffi = loadKoffi();
  const libc = koffi.load('libc.so.6');
  const transfer = (name: 'read' | 'write'): Transfer => {
    const call = libc.func(`int ${name}(int fd, void *bytes, size_t length)`) as unknown as Transfer;
    return (fd, bytes, length) => {
      const count = call(fd, bytes, length);
      return count < 0 ? -koffi.errno() : count;
    };
  };
  return {
    create: libc.func('int epoll_create1(int flags)') as unknown as (flags: number) => number,
    control: libc.func('int epoll_ctl(int epoll, int what, int fd, void *event)') as unknown as (
      epoll: number,
      what: number,
      fd: number,
      event: Buffer,
    ) => number,
    wait: libc.func('int epoll_wait(int epoll, void *events, int most, int timeout)') as unknown as (
      epoll: number,
      events: Buffer,
      most: number,
      timeout: number,
    ) => number,
    close: libc.func('int close(int fd)') as unknown as (fd: number) => number,
    read: transfer('read'),
    write: transfer('write'),
  };
}
