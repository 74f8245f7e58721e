/**
 * What a daemon did, one record per request and event, and how a record looks as a line. Nothing is recorded, and almost
 * nothing spent, unless an engine is given a tracer. Knows no file.
 */
import { opName } from '../wire.js';
import type { Connection } from './connection.js';
import { textOf } from './latin1.js';
import type { Request } from './request.js';

/** What happened on one connection. */
export interface TraceRecord {
  /** A request's operation, or CONNECT, DISCONNECT, WATCH_EVENT. */
  readonly op: string;
  /** Number of the connection, in the order in which they were opened. */
  readonly connection: number;
  readonly domid: number;
  /** 0 outside of transactions. */
  readonly transaction: number;
  /** The first string of the payload: a path, or `T` or `F` at the end of a transaction; latin-1. */
  readonly path: string;
  /** `OK`, or the errno name in the reply; of events the token. */
  readonly result: string;
  /** Time spent on it; undefined where nothing was measured. */
  readonly tookUs: number | undefined;
}

export interface Tracer {
  /** Microseconds since some fixed moment. */
  now(): number;
  record(record: TraceRecord): void;
}

/** Enough to tell paths apart; whole ones may have 3072 bytes. */
const MAX_PATH_BYTES = 256;

export function traceRequest(tracer: Tracer, request: Request, startedUs: number): void {
  const { connection, bytes, start, end } = request;
  const nul = request.firstNul();
  const pathEnd = Math.min(nul < 0 ? end : nul, start + MAX_PATH_BYTES);
  tracer.record({
    op: opName(request.type),
    connection: connection.sequence,
    domid: connection.domid,
    transaction: request.transactionId,
    path: textOf(bytes, start, pathEnd),
    result: request.error ?? 'OK',
    tookUs: Math.max(0, Math.round(tracer.now() - startedUs)),
  });
}

export function traceConnection(tracer: Tracer, op: string, connection: Connection, path = '', token = ''): void {
  const { sequence, domid } = connection;
  tracer.record({
    op,
    connection: sequence,
    domid,
    transaction: 0,
    path: path.slice(0, MAX_PATH_BYTES),
    result: token.slice(0, MAX_PATH_BYTES),
    tookUs: undefined,
  });
}

/** For people: `12:30:01.250 #3 d0 READ /tool/x OK 12us`. What a client sent cannot act on a terminal. */
export function traceText(record: TraceRecord, atMs: number): string {
  const { op, connection, domid, transaction, path, result, tookUs } = record;
  const time = new Date(atMs).toISOString().slice(11, 23);
  const fields = [time, `#${connection}`, `d${domid}`, op];
  if (transaction !== 0) fields.push(`tx=${transaction}`);
  if (path !== '') fields.push(visible(path));
  if (result !== '') fields.push(visible(result));
  if (tookUs !== undefined) fields.push(`${tookUs}us`);
  return `${fields.join(' ')}\n`;
}

/** For programs: one JSON object per line. */
export function traceJson(record: TraceRecord, atMs: number): string {
  return `${JSON.stringify({ at: new Date(atMs).toISOString(), ...record })}\n`;
}

function visible(text: string): string {
  return text.replace(/[^\x21-\x7e]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
