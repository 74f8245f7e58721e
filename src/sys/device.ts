/**
 * Plain system calls on character devices: open, ioctl, read, write, mmap. What the numbers mean is the business of the
 * rooms that call; here no device is known.
 *
 * Each call answers as the kernel does: a result, or a negative errno (`-os.constants.errno.EAGAIN`).
 */
import { closeSync, constants, openSync } from 'node:fs';
import { loadKoffi } from './libc.js';
import { type DescriptorPoll, type PollEvents, pollDescriptor } from './poll.js';

/** Memory of the kernel's choosing, seen as bytes. */
export interface Mapping {
  readonly buffer: ArrayBuffer;
  /**
   * Takes the memory back from the device. A view of it that somebody still holds then shows private zeros: it must
   * never point into a hole, because touching one would end the process.
   */
  unmap(): void;
}

/** What needs no koffi: whether a device is there can be said without it. */
export interface DeviceFiles {
  /** Opens for reading and writing, non-blocking. */
  open(path: string): number;
  close(fd: number): void;
}

export interface DeviceCalls {
  close(fd: number): void;
  /** `argument` is read and written by the kernel. */
  ioctl(fd: number, request: number, argument: ArrayBufferView | null): number;
  read(fd: number, target: ArrayBufferView): number;
  write(fd: number, source: ArrayBufferView): number;
  /** Shared, for reading and writing. */
  map(fd: number, lengthBytes: number, offset: bigint): Mapping | number;
  poll(fd: number, onEvents: (events: PollEvents) => void): DescriptorPoll;
  /** Stops the whole process for a moment; only for waits that end within milliseconds. */
  pause(milliseconds: number): void;
}

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;

/** Throws ChannelError `module-missing` when koffi is not there. */
export function loadDeviceCalls(): DeviceCalls {
  const koffi = loadKoffi();
  const libc = koffi.load('libc.so.6');
  const ioctl = libc.func('int ioctl(int fd, ulong request, void *argument)');
  const read = libc.func('int64_t read(int fd, void *target, size_t length)');
  const write = libc.func('int64_t write(int fd, void *source, size_t length)');
  const mmap = libc.func('void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)');
  const munmap = libc.func('int munmap(void *at, size_t length)');
  const answer = (result: unknown): number => (Number(result) < 0 ? -koffi.errno() : Number(result));

  // The memory behind a view goes only when no one can reach the view any more.
  const unreachable = new FinalizationRegistry<{ address: bigint; lengthBytes: number }>((memory) => {
    munmap(memory.address, memory.lengthBytes);
  });

  const replaceByZeros = (address: bigint, lengthBytes: number): void => {
    mmap(address, lengthBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  };

  return {
    close: deviceFiles.close,
    ioctl: (fd, request, argument) => answer(ioctl(fd, request, argument)),
    read: (fd, target) => answer(read(fd, target, target.byteLength)),
    write: (fd, source) => answer(write(fd, source, source.byteLength)),
    map(fd, lengthBytes, offset) {
      const pointer: unknown = mmap(null, lengthBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
      // MAP_FAILED is (void *)-1, not NULL.
      if (typeof pointer !== 'bigint' || BigInt.asIntN(64, pointer) === -1n) return -koffi.errno();
      const buffer = koffi.view(pointer, lengthBytes);
      unreachable.register(buffer, { address: pointer, lengthBytes });
      return { buffer, unmap: () => replaceByZeros(pointer, lengthBytes) };
    },
    poll: (fd, onEvents) => pollDescriptor(fd, { readable: true }, onEvents),
    pause: (milliseconds) => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
    },
  };
}

export const deviceFiles: DeviceFiles = {
  open(path) {
    try {
      return openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    } catch (error) {
      const errno = (error as NodeJS.ErrnoException).errno;
      if (errno === undefined) throw error;
      return errno;
    }
  },
  close: (fd) => closeSync(fd),
};
