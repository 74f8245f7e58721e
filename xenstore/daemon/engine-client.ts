/**
 * One client of the engine: takes its bytes apart into requests and has them answered. Knows no socket.
 */
import { HEADER_BYTES, MAX_PAYLOAD_BYTES, Op } from '../wire.js';
import type { Connection } from './connection.js';
import type { StoreCore } from './core.js';
import { dropConnection } from './lifecycle.js';
import { Asked } from './message-queue.js';
import { answer as answerAsOxenstored } from './oxenstored/dispatch.js';
import { Request } from './request.js';
import { HANDLERS } from './requests/table.js';
import { traceRequest } from './trace.js';
import type { Outcomes } from './turns.js';

/** One client of the engine. */
export interface EngineConnection {
  /** Bytes from the client, split anyhow. The replies have been handed to `send` when this returns. */
  push(chunk: Buffer): void;
  /**
   * The client takes no bytes until `release`: what is for it waits here, and of equal watch events only one, as in the
   * genuine daemons. More than 2 MiB is handed to `send` all the same.
   */
  hold(): void;
  release(): void;
  /** Bytes that wait for `release`. */
  readonly waitingBytes: number;
  /** Whether the next of these bytes begin a transaction. */
  startsTransaction(chunk: Buffer): boolean;
  readonly outcomes: Outcomes;
  /**
   * False while a domain has more than its share of requests under way or of memory in use: then the genuine daemon reads
   * nothing of it. `onHeard` is called when that has changed.
   */
  readonly isHeard: boolean;
  /** The client is gone: its watches and transactions go, too. */
  close(): void;
}

export class EngineClient implements EngineConnection {
  readonly #core: StoreCore;
  readonly #connection: Connection;
  readonly #request: Request;
  /** Bytes of an unfinished message. */
  #rest: Buffer | undefined;

  constructor(core: StoreCore, connection: Connection) {
    this.#core = core;
    this.#connection = connection;
    this.#request = new Request(connection);
  }

  push(chunk: Buffer): void {
    if (this.#connection.closed) return;
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = undefined;
    const used = this.#handleAll(bytes);
    // A copy, so that one unfinished byte does not keep a whole chunk alive.
    if (used < bytes.length && !this.#connection.closed) this.#rest = Buffer.from(bytes.subarray(used));
    this.#core.flush();
  }

  hold(): void {
    this.#connection.held = true;
  }

  release(): void {
    this.#core.release(this.#connection);
  }

  get waitingBytes(): number {
    return this.#connection.output?.length ?? 0;
  }

  startsTransaction(chunk: Buffer): boolean {
    return this.#rest === undefined && chunk[0] === Op.TransactionStart && chunk.length >= HEADER_BYTES;
  }

  get outcomes(): Outcomes {
    return this.#connection;
  }

  get isHeard(): boolean {
    return this.#core.isHeard(this.#connection);
  }

  delivered(): void {
    this.#core.flush();
  }

  close(): void {
    this.#core.oxenstored?.dropTransactions(this.#connection);
    dropConnection(this.#core, this.#connection);
    this.#core.discardOutput(this.#connection);
    this.#rest = undefined;
    this.#core.flush();
  }

  /** Returns how many bytes were whole messages. */
  #handleAll(bytes: Buffer): number {
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      const claimedBytes = readUInt32(bytes, at + 12);
      const { lenientFraming } = this.#core.rules;
      const payloadBytes = lenientFraming ? Math.min(claimedBytes, MAX_PAYLOAD_BYTES) : claimedBytes;
      if (payloadBytes > MAX_PAYLOAD_BYTES) {
        // There is no way to find the next header: the C daemon drops such a client.
        this.#drop();
        return bytes.length;
      }
      const end = at + HEADER_BYTES + payloadBytes;
      if (
        bytes.length < end ||
        (lenientFraming && this.#connection.privileged && payloadBytes === 0 && bytes.length === end)
      )
        break;
      this.#handle(bytes, at, end);
      if (this.#connection.closed) return bytes.length;
      at = end;
    }
    return at;
  }

  #drop(): void {
    dropConnection(this.#core, this.#connection);
    this.#core.closeAfterFlush(this.#connection);
  }

  #handle(bytes: Buffer, at: number, end: number): void {
    const request = this.#request;
    request.type = readUInt32(bytes, at);
    request.id = readUInt32(bytes, at + 4);
    request.transactionId = readUInt32(bytes, at + 8);
    request.bytes = bytes;
    request.start = at + HEADER_BYTES;
    request.end = end;
    const core = this.#core;
    if (core.tracer === undefined) this.#answer(request);
    else {
      const startedUs = core.tracer.now();
      request.error = undefined;
      this.#answer(request);
      traceRequest(core.tracer, request, startedUs);
    }
  }

  #answer(request: Request): void {
    const core = this.#core;
    const { domain, queue } = this.#connection;
    if (domain === undefined) {
      this.#perform(request);
      return;
    }
    const asked = new Asked(domain);
    core.asked = asked;
    this.#perform(request);
    core.asked = undefined;
    if (core.rules.features) domain.noteMaxima();
    // Over a socket the answer itself counts as delivered.
    if (queue === undefined && asked.causes) asked.answeredAtOnce();
  }

  #perform(request: Request): void {
    const core = this.#core;
    if (core.oxenstored !== undefined) {
      answerAsOxenstored(core.oxenstored, request);
      return;
    }
    const error = this.#dispatch(request);
    if (error !== undefined) core.error(request, error);
    if (core.afterReply !== undefined) {
      const afterReply = core.afterReply;
      core.afterReply = undefined;
      afterReply();
    }
  }

  #dispatch(request: Request) {
    const handler = HANDLERS[request.type];
    if (handler === undefined || (handler.recent === true && !this.#core.rules.features)) return 'ENOSYS';
    if (handler.privileged === true && !this.#connection.privileged) return 'EACCES';
    request.transaction = undefined;
    if (request.transactionId !== 0 && handler.ignoresTransaction !== true) {
      request.transaction = this.#connection.transactions.get(request.transactionId);
      if (request.transaction === undefined) return 'ENOENT';
    }
    return handler.handle(this.#core, request);
  }
}

function readUInt32(bytes: Buffer, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}
