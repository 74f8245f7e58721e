/**
 * write(2) on a descriptor that does not block, with the kernel's answer as a number. Node's own makes an exception of
 * "no room now", which costs about ten times the call; it is what is used where the optional module koffi is missing.
 */
import { writeSync } from 'node:fs';
import { constants } from 'node:os';
import { loadKoffi } from './libc.js';

const BUSY: ReadonlySet<number> = new Set([constants.errno.EAGAIN, constants.errno.EINTR]);

/** How many bytes were taken; 'busy': none, because there is no room now; 'refused': none, and there will be no room. */
export type Written = number | 'busy' | 'refused';

export type WriteCall = (fd: number, bytes: Uint8Array) => Written;

let fastest: WriteCall | undefined;

export function writeNow(fd: number, bytes: Uint8Array): Written {
  fastest ??= throughLibc() ?? throughNode;
  return fastest(fd, bytes);
}

export const throughNode: WriteCall = (fd, bytes) => {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    const { errno = 0 } = error as NodeJS.ErrnoException;
    return BUSY.has(-errno) ? 'busy' : 'refused';
  }
};

/** Undefined without koffi. */
export function throughLibc(): WriteCall | undefined {
  try {
    const koffi = loadKoffi();
    const write = koffi.load('libc.so.6').func('int64_t write(int fd, const void *bytes, size_t count)');
    return (fd, bytes) => {
      const count = Number(write(fd, bytes, bytes.length));
      if (count >= 0) return count;
      return BUSY.has(koffi.errno()) ? 'busy' : 'refused';
    };
  } catch {
    return undefined;
  }
}
