/** How the xenstore utilities fail: one sentence and exit code 1, with the C library's words for an errno. */
import { XenstoreError } from '../../../xenstore/errors.js';

/** Ends the program. */
export class Failure extends Error {
  override readonly name = 'Failure';
}

export type Complain = (sentence: string) => void;

const SENTENCES: Readonly<Record<string, string>> = {
  EINVAL: 'Invalid argument',
  EACCES: 'Permission denied',
  EEXIST: 'File exists',
  EISDIR: 'Is a directory',
  ENOENT: 'No such file or directory',
  ENOMEM: 'Cannot allocate memory',
  ENOSPC: 'No space left on device',
  EIO: 'Input/output error',
  ENOTEMPTY: 'Directory not empty',
  ENOSYS: 'Function not implemented',
  EROFS: 'Read-only file system',
  EBUSY: 'Device or resource busy',
  EAGAIN: 'Resource temporarily unavailable',
  EISCONN: 'Transport endpoint is already connected',
  E2BIG: 'Argument list too long',
  EPERM: 'Operation not permitted',
  ECONNREFUSED: 'Connection refused',
  ENOTDIR: 'Not a directory',
  ENOTSOCK: 'Socket operation on non-socket',
};

export function strerror(error: unknown): string {
  const code = error instanceof XenstoreError && SENTENCES[error.code] !== undefined ? error.code : causeCode(error);
  return SENTENCES[code] ?? (error instanceof Error ? error.message : String(error));
}

function causeCode(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return typeof code === 'string' ? code : '';
}
