/**
 * A regular file as memory that outlives the process: what is stored in it is in the kernel's page cache at once, and a
 * SIGKILL takes nothing back. What is in the file is the business of the rooms that call.
 */
import { getSystemErrorName } from 'node:util';
import { type DeviceCalls, loadDeviceCalls, type Mapping } from './device.js';
import { callFailed } from './libc.js';

let calls: DeviceCalls | undefined;

/**
 * Maps the first `lengthBytes` of an open file, shared, for reading and writing. They must be there, with their storage:
 * touching a page behind the end of the file, or one that the file system has no room for, ends the process (SIGBUS).
 * Throws ChannelError `module-missing`, `system-call-failed`.
 */
export function mapFile(fd: number, lengthBytes: number): Mapping {
  calls ??= loadDeviceCalls();
  const mapping = calls.map(fd, lengthBytes, 0n);
  if (typeof mapping === 'number') throw callFailed(`mmap of ${lengthBytes} bytes`, getSystemErrorName(mapping));
  return mapping;
}

/** Whether `mapFile` has what it needs: koffi. */
export function canMapFiles(): boolean {
  try {
    calls ??= loadDeviceCalls();
    return true;
  } catch {
    return false;
  }
}
