/**
 * The xenstore message format: operation numbers, header layout and limits. Pure encoding; knows no socket and no tree.
 * Source: xen:xen/include/public/io/xs_wire.h.
 */

export const Op = {
  Control: 0,
  Directory: 1,
  Read: 2,
  GetPerms: 3,
  Watch: 4,
  Unwatch: 5,
  TransactionStart: 6,
  TransactionEnd: 7,
  Introduce: 8,
  Release: 9,
  GetDomainPath: 10,
  Write: 11,
  Mkdir: 12,
  Rm: 13,
  SetPerms: 14,
  WatchEvent: 15,
  Error: 16,
  IsDomainIntroduced: 17,
  Resume: 18,
  SetTarget: 19,
  ResetWatches: 21,
  DirectoryPart: 22,
  GetFeature: 23,
  SetFeature: 24,
  GetQuota: 25,
  SetQuota: 26,
} as const;

export type OpNumber = (typeof Op)[keyof typeof Op];

const OP_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(Op).map(([name, number]) => [number, name.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase()]),
);

/** `READ`, `TRANSACTION_START`: the name in the protocol documentation. */
export function opName(type: number): string {
  return OP_NAMES.get(type) ?? `operation ${type}`;
}

/** type, req_id, tx_id, len: four u32 in native order, which is little-endian wherever Xen runs. */
export const HEADER_BYTES = 16;
/** XENSTORE_PAYLOAD_MAX. */
export const MAX_PAYLOAD_BYTES = 4096;
/** XENSTORE_ABS_PATH_MAX and XENSTORE_REL_PATH_MAX. */
export const MAX_ABSOLUTE_PATH_BYTES = 3072;
export const MAX_RELATIVE_PATH_BYTES = 2048;

export interface MessageHeader {
  readonly type: number;
  readonly requestId: number;
  readonly transactionId: number;
  readonly payloadBytes: number;
}

export interface Message {
  readonly type: number;
  readonly requestId: number;
  readonly transactionId: number;
  readonly payload: Buffer;
}

/** Reads a header at `offset`; the caller has checked that 16 bytes are there. */
export function decodeHeader(bytes: Buffer, offset = 0): MessageHeader {
  return {
    type: bytes.readUInt32LE(offset),
    requestId: bytes.readUInt32LE(offset + 4),
    transactionId: bytes.readUInt32LE(offset + 8),
    payloadBytes: bytes.readUInt32LE(offset + 12),
  };
}

/** One message as it goes over the wire. `payload` must not be longer than MAX_PAYLOAD_BYTES; the caller has checked. */
export function encodeMessage(type: number, requestId: number, transactionId: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(requestId, 4);
  bytes.writeUInt32LE(transactionId, 8);
  bytes.writeUInt32LE(payload.length, 12);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}
