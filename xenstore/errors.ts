/**
 * Errors of the xenstore library. The wire carries errno names; whatever the transport or the client itself adds has a
 * name of its own, so that a caller can always switch on `code`.
 */

/** Names that may appear in an ERROR reply (xen:xen/include/public/io/xs_wire.h, xsd_errors). */
export const WIRE_ERRORS = [
  'EINVAL',
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ENOENT',
  'ENOMEM',
  'ENOSPC',
  'EIO',
  'ENOTEMPTY',
  'ENOSYS',
  'EROFS',
  'EBUSY',
  'EAGAIN',
  'EISCONN',
  'E2BIG',
  'EPERM',
] as const;

export type WireError = (typeof WIRE_ERRORS)[number];

/** What an errno name means when xenstored says it, for sentences. */
export const WIRE_ERROR_MEANING: Readonly<Record<WireError, string>> = {
  EINVAL: 'the request makes no sense to it',
  EACCES: 'no permission',
  EEXIST: 'it exists already',
  EISDIR: 'it is a directory',
  ENOENT: 'no such node',
  ENOMEM: 'the daemon is out of memory, or the transaction had failed before',
  ENOSPC: 'a quota is exhausted',
  EIO: 'the daemon failed',
  ENOTEMPTY: 'it is not empty',
  ENOSYS: 'this daemon does not know the operation',
  EROFS: 'the store is read-only',
  EBUSY: 'it is busy',
  EAGAIN: 'somebody else changed the same nodes',
  EISCONN: 'the domain is connected already',
  E2BIG: 'too long',
  EPERM: 'only the owner or a privileged domain may do that',
};

/** What only this side can notice. */
export type LocalError =
  | 'unreachable' // no daemon at the socket or device
  | 'not-permitted' // the socket or device may not be opened
  | 'disconnected' // the connection broke while a request was in flight
  | 'closed' // the client was closed by its owner
  | 'protocol' // the peer sent what no xenstored sends
  | 'timeout' // waitUntil gave up
  | 'conflict' // other writers won in every allowed try
  | 'overloaded'; // too many requests wait for their turn on this client

export type XenstoreErrorCode = WireError | LocalError;

export class XenstoreError extends Error {
  override readonly name = 'XenstoreError';
  readonly code: XenstoreErrorCode;
  /** The path the failing request was about, if it was about one. */
  readonly path: string | undefined;

  constructor(code: XenstoreErrorCode, sentence: string, options: { path?: string; cause?: unknown } = {}) {
    super(sentence, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.path = options.path;
  }
}

export function isXenstoreError(error: unknown, ...codes: XenstoreErrorCode[]): error is XenstoreError {
  return error instanceof XenstoreError && (codes.length === 0 || codes.includes(error.code));
}
