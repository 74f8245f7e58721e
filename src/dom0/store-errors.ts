/** Turns what the xenstore library and the operating system throw into our codes: callers see one kind of error. */
import { isXenstoreError, type XenstoreErrorCode } from '../../xenstore/errors.js';
import { ChannelError, type ErrorCode } from '../base/errors.js';

const CODES: Partial<Record<XenstoreErrorCode, ErrorCode>> = {
  EACCES: 'permission-denied',
  EPERM: 'permission-denied',
  unreachable: 'store-unreachable',
  'not-permitted': 'permission-denied',
  disconnected: 'store-unreachable',
  conflict: 'store-conflict',
  timeout: 'wait-timeout',
  protocol: 'store-unreachable',
  overloaded: 'store-unreachable',
  closed: 'interrupted',
  // Of a simulated xenstored that cannot listen.
  EBUSY: 'path-in-use',
  EEXIST: 'path-not-a-socket',
};

/** A ChannelError stays as it is; anything unknown is `internal-bug`, with the cause kept. */
export function toChannelError(error: unknown): ChannelError {
  if (error instanceof ChannelError) return error;
  if (isXenstoreError(error)) {
    const code = CODES[error.code];
    if (code !== undefined) return new ChannelError(code, error.message, { store: error.code }, { cause: error });
    return new ChannelError(
      'internal-bug',
      `xenstore answered ${error.code}: ${error.message}`,
      { store: error.code },
      { cause: error },
    );
  }
  if (isSystemError(error)) {
    const denied = error.code === 'EACCES' || error.code === 'EPERM';
    const details = { errno: error.code, call: error.syscall };
    return new ChannelError(denied ? 'permission-denied' : 'system-call-failed', error.message, details, {
      cause: error,
    });
  }
  const text = error instanceof Error ? error.message : String(error);
  return new ChannelError('internal-bug', `unexpected error: ${text}`, {}, { cause: error });
}

type SystemError = Error & { readonly code: string; readonly syscall: string };

/** What Node throws for a failed system call; its message names call, errno and path. */
function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && 'syscall' in error && typeof error.syscall === 'string' && 'code' in error;
}
