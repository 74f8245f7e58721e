/** The public face of the xenstore library: protocol, client and simulated daemon. */

export { MessageDecoder } from './decoder.js';
export { isXenstoreError, WIRE_ERRORS, type WireError, XenstoreError, type XenstoreErrorCode } from './errors.js';
export type { Store, StoreOperations, TransactionOptions, WaitOptions, Watch, WatchListener } from './operations.js';
export { absolutePath, checkPath, pathProblem } from './path.js';
export {
  type Access,
  formatPermission,
  type Permission,
  type Permissions,
  parsePermission,
  permissions,
} from './permissions.js';
export {
  decodeHeader,
  encodeMessage,
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
  type Message,
  type MessageHeader,
  Op,
} from './wire.js';
