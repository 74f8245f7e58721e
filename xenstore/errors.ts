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

/** What only this side can notice. */
export type LocalError =
  | 'unreachable' // no daemon at the socket or device
  | 'disconnected' // the connection broke while a request was in flight
  | 'closed' // the client was closed by its owner
  | 'protocol' // the peer sent what no xenstored sends
  | 'timeout' // waitUntil gave up
  | 'conflict'; // a transaction lost against other writers in every allowed try

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
