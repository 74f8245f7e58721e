/**
 * Named pipes and locks on open files: what Node lacks to let two processes ring each other. Knows nothing of Xen.
 */
import { callFailed, loadKoffi } from './libc.js';

const LOCK_EX = 2;
const LOCK_NB = 4;
const MODE = 0o600;

/** Throws ChannelError `system-call-failed`, also when something is there already. */
export function makeFifo(path: string): void {
  const mkfifo = loadKoffi().load('libc.so.6').func('int mkfifo(const char *path, uint mode)');
  if (mkfifo(path, MODE) !== 0) throw callFailed(`mkfifo of ${path}`);
}

/** False: another open file has it. The lock ends with the last descriptor, also when the process is killed. */
export function tryLock(fd: number): boolean {
  const flock = loadKoffi().load('libc.so.6').func('int flock(int fd, int operation)');
  return flock(fd, LOCK_EX | LOCK_NB) === 0;
}
