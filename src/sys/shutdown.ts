/**
 * Half of shutdown(2): Node can close a socket for writing, but not for reading.
 */
import { loadKoffi } from './libc.js';

const SHUT_RD = 0;

let shutdown: ((fd: number, how: number) => number) | undefined;

/**
 * From now on the peer cannot send any more (EPIPE), while what it has sent can still be read. False where the optional
 * module koffi is missing or the socket is not connected any more; then a peer may go on sending for a moment.
 */
export function shutdownRead(fd: number): boolean {
  try {
    shutdown ??= loadKoffi().load('libc.so.6').func('int shutdown(int fd, int how)') as never;
    return (shutdown as (fd: number, how: number) => number)(fd, SHUT_RD) === 0;
  } catch {
    return false;
  }
}
