/**
 * The C library functions that Node does not offer, through koffi, loaded at the first use and only then: everything
 * that needs no Xen device and no PTY runs without koffi. Other rooms use the wrappers beside this file (poll.ts,
 * pty.ts, ...), not koffi itself.
 */
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import { ChannelError } from '../base/errors.js';

type Koffi = typeof import('koffi');

let loaded: Koffi | undefined;

/** Throws ChannelError `module-missing` when the optional dependency is not installed. */
export function loadKoffi(): Koffi {
  if (loaded === undefined) {
    try {
      loaded = createRequire(import.meta.url)('koffi') as Koffi;
    } catch (cause) {
      throw new ChannelError(
        'module-missing',
        "the optional module 'koffi' is not installed; Xen devices and PTYs need it: npm install koffi",
        {},
        { cause },
      );
    }
  }
  return loaded;
}

/** `ENOENT` and the like for the errno that the last koffi call left. */
export function lastErrno(): string {
  return getSystemErrorName(-loadKoffi().errno());
}

/** A ChannelError for a failed call: `what` says which, with its argument. */
export function callFailed(what: string, errno = lastErrno()): ChannelError {
  return new ChannelError('system-call-failed', `${what} failed: ${errno}`, { what, errno });
}
