/** The public face of the xenstore library: protocol, client and simulated daemon. */

export { type ClientCounters, XenstoreClient } from './client/client.js';
export { openDeviceTransport } from './client/device.js';
export type { ConnectOptions, ReconnectOptions, StoreClock } from './client/options.js';
export { type RingPort, ringOpener } from './client/ring.js';
export { candidatePaths, type Transport, type TransportHandlers } from './client/transport.js';
export { type NodeDump, parseTreeDump, type TreeDump } from './daemon/dump.js';
export { type EngineOptions, XenstoreEngine } from './daemon/engine.js';
export type { EngineConnection } from './daemon/engine-client.js';
export type { Likeness } from './daemon/likeness.js';
export { type RingCounters, RingServer, type RingServerOptions } from './daemon/ring.js';
export { type Listener, type ServerCounters, type ServerLog, XenstoreServer } from './daemon/server.js';
export { type TraceRecord, type Tracer, traceJson, traceText } from './daemon/trace.js';
export { MessageDecoder, type PayloadLimit } from './decoder.js';
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
export { RING_BYTES, RING_PAGE_BYTES, RingError, RingFeature, RingPage } from './ring.js';
export {
  decodeHeader,
  encodeMessage,
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
  type Message,
  type MessageHeader,
  Op,
  type OpNumber,
} from './wire.js';
