/**
 * Tells when somebody opened or closed a file, device nodes included. Only a hint to look again: the kernel folds equal
 * events into one, so they cannot be counted.
 */
import { callFailed, lastErrno, loadKoffi } from './libc.js';
import { type DescriptorPoll, pollDescriptor } from './poll.js';

const IN_CLOSE_WRITE = 0x8;
const IN_CLOSE_NOWRITE = 0x10;
const IN_OPEN = 0x20;
/** IN_NONBLOCK and IN_CLOEXEC are O_NONBLOCK and O_CLOEXEC. */
const INIT_FLAGS = 0o4000 | 0o2000000;
/** struct inotify_event without a name: wd, mask, cookie, len. Watches on files never carry a name. */
const HEADER_BYTES = 16;

type Libc = {
  inotify_init1(flags: number): number;
  inotify_add_watch(fd: number, path: string, mask: number): number;
  inotify_rm_watch(fd: number, descriptor: number): number;
  read(fd: number, buffer: Buffer, size: number): number;
  close(fd: number): number;
};

let loaded: Libc | undefined;

function loadLibc(): Libc {
  if (loaded === undefined) {
    const library = loadKoffi().load('libc.so.6');
    loaded = {
      inotify_init1: library.func('int inotify_init1(int flags)') as never,
      inotify_add_watch: library.func('int inotify_add_watch(int fd, const char *path, uint32_t mask)') as never,
      inotify_rm_watch: library.func('int inotify_rm_watch(int fd, int wd)') as never,
      read: library.func('int64_t read(int fd, void *buffer, size_t size)') as never,
      close: library.func('int close(int fd)') as never,
    };
  }
  return loaded;
}

/** One inotify instance for any number of files. */
export class OpenCloseWatcher {
  readonly #libc = loadLibc();
  readonly #fd: number;
  readonly #poll: DescriptorPoll;
  readonly #listeners = new Map<number, () => void>();
  readonly #buffer = Buffer.alloc(64 * 1024);
  #closed = false;

  /** Throws ChannelError `system-call-failed` when the user's inotify instances are used up. */
  constructor() {
    this.#fd = this.#libc.inotify_init1(INIT_FLAGS);
    if (this.#fd < 0) throw callFailed('inotify_init1');
    this.#poll = pollDescriptor(this.#fd, { readable: true }, () => this.#drain());
  }

  /** Calls `onChange` after somebody opened or closed `path`; returns the function that ends it. One per path. */
  watch(path: string, onChange: () => void): () => void {
    const descriptor = this.#libc.inotify_add_watch(this.#fd, path, IN_OPEN | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE);
    if (descriptor < 0) throw callFailed(`inotify_add_watch of ${path}`);
    this.#listeners.set(descriptor, onChange);
    return () => {
      // Descriptors are never reused (inotify(7)), so a late call cannot hit somebody else's watch.
      if (!this.#listeners.delete(descriptor) || this.#closed) return;
      this.#libc.inotify_rm_watch(this.#fd, descriptor);
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listeners.clear();
    this.#poll.close();
    this.#libc.close(this.#fd);
  }

  #drain(): void {
    const touched = new Set<number>();
    for (;;) {
      const count = Number(this.#libc.read(this.#fd, this.#buffer, this.#buffer.length));
      if (count <= 0) {
        const errno = lastErrno();
        if (errno !== 'EAGAIN' && errno !== 'EINTR') throw callFailed('read of inotify', errno);
        break;
      }
      for (let at = 0; at + HEADER_BYTES <= count; at += HEADER_BYTES + this.#buffer.readUInt32LE(at + 12)) {
        touched.add(this.#buffer.readInt32LE(at));
      }
    }
    // -1 is the queue overflow: events were lost, so everybody looks again.
    const descriptors = touched.has(-1) ? [...this.#listeners.keys()] : touched;
    for (const descriptor of descriptors) this.#listeners.get(descriptor)?.();
  }
}
