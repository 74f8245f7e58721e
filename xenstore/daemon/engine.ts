/**
 * A xenstore daemon without I/O: bytes of any number of connections in, bytes out. Whoever owns the sockets is somebody
 * else.
 */
import { XenstoreError } from '../errors.js';
import { HEADER_BYTES, MAX_PAYLOAD_BYTES, Op } from '../wire.js';
import { Connection } from './connection.js';
import { StoreCore } from './core.js';
import { dumpTree, loadTree, type TreeDump } from './dump.js';
import { dropConnection, introduceDomain, releaseDomain, shutdownDomain } from './lifecycle.js';
import type { Likeness } from './likeness.js';
import { answer as answerAsOxenstored } from './oxenstored/dispatch.js';
import type { OxMachine } from './oxenstored/machine.js';
import { Refusal } from './oxenstored/refusal.js';
import { Request } from './request.js';
import { HANDLERS } from './requests/table.js';
import { type Tracer, traceConnection, traceRequest } from './trace.js';
import type { Outcomes } from './turns.js';

export interface EngineOptions {
  /** Which genuine daemon to answer like; default the C daemon of Xen 4.17. */
  readonly like?: Likeness;
  /**
   * Whether the hypervisor has a domain: only such domains can be introduced or own nodes. Without it, a domain exists
   * from `createDomain` or its introduction until it is destroyed or released.
   */
  readonly domainExists?: (domid: number) => boolean;
  /** Told of every request, event and connection. */
  readonly tracer?: Tracer;
}

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
  /** The client is gone: its watches and transactions go, too. */
  close(): void;
}

export class XenstoreEngine {
  readonly #core: StoreCore;

  constructor(options: EngineOptions = {}) {
    const { like = 'xenstored-4.17', domainExists, tracer } = options;
    this.#core = new StoreCore({ like, domainExists, tracer });
  }

  /**
   * A new client that acts as domain `domid`; 0 is a privileged socket in dom0. `send` gets whole messages, everything
   * that one chunk caused in one piece. `onClosedByServer` is called when the daemon ends the connection.
   * `tryWrite` may be asked first: it sends the first `length` bytes as far as it can without keeping any, and returns how
   * many; `send` gets the rest. Throws XenstoreError ENOENT for a domain that is not introduced.
   */
  connect(
    domid: number,
    send: (bytes: Buffer) => void,
    onClosedByServer: () => void,
    tryWrite?: (bytes: Buffer, length: number) => number,
  ): EngineConnection {
    const core = this.#core;
    const domain = domid === 0 ? undefined : core.domains.introduced(domid);
    if (domid !== 0 && domain === undefined) {
      throw new XenstoreError('ENOENT', `domain ${domid} is not introduced to xenstore: it has no connection`);
    }
    const connection = new Connection(domid, domain, { send, onClosedByServer, tryWrite });
    connection.sequence = ++core.sequence;
    core.connections.add(connection);
    domain?.connections.add(connection);
    if (core.tracer !== undefined) traceConnection(core.tracer, 'CONNECT', connection);
    return new EngineClient(core, connection);
  }

  /** The hypervisor has a new domain: it may own nodes before it is introduced. */
  createDomain(domid: number): void {
    this.#core.domains.create(domid);
  }

  /** As INTRODUCE from the toolstack; fires `@introduceDomain`. Throws XenstoreError EINVAL for a domid that none can have. */
  introduceDomain(domid: number): void {
    const { oxenstored } = this.#core;
    if (oxenstored !== undefined) {
      introduceInOxenstored(oxenstored, domid);
      this.#core.flush();
      return;
    }
    this.#core.domains.introduceImplicitly(domid);
    if (introduceDomain(this.#core, domid) === undefined) {
      throw new XenstoreError('EINVAL', `there is no domain ${domid} to introduce to xenstore`);
    }
    this.#core.flush();
  }

  /**
   * The domain is gone from the hypervisor: its connections are closed, its nodes deleted, and `@releaseDomain` fires.
   * Harmless for a domain that is not known.
   */
  releaseDomain(domid: number): void {
    const { oxenstored } = this.#core;
    if (oxenstored !== undefined && domid !== 0) {
      oxenstored.domainEnded(domid);
      this.#core.flush();
      return;
    }
    const domain = domid === 0 ? undefined : this.#core.domains.find(domid);
    this.#core.domains.destroy(domid);
    if (domain !== undefined) releaseDomain(this.#core, domain);
    this.#core.flush();
  }

  /** The domain has shut down but still exists; fires `@releaseDomain` once until RESUME. */
  shutdownDomain(domid: number): void {
    const domain = domid === 0 ? undefined : this.#core.domains.find(domid);
    if (this.#core.oxenstored !== undefined) this.#core.oxenstored.domainShutDown(domid);
    else if (domain !== undefined) shutdownDomain(this.#core, domain);
    this.#core.flush();
  }

  isIntroduced(domid: number): boolean {
    return this.#core.domains.introduced(domid) !== undefined;
  }

  /** What the daemon says of itself in the pages it shares with domains (RingFeature). */
  get ringFeatures(): number {
    return this.#core.rules.ringFeatures;
  }

  dump(): TreeDump {
    return dumpTree(this.#core);
  }

  /** Replaces the whole tree; fires nothing. Throws XenstoreError EINVAL when the dump is unusable; then nothing changed. */
  load(dump: TreeDump): void {
    loadTree(this.#core, dump);
  }
}

class EngineClient implements EngineConnection {
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

  close(): void {
    this.#core.oxenstored?.dropTransactions(this.#connection);
    dropConnection(this.#core, this.#connection);
    this.#core.discardOutput(this.#connection);
    this.#rest = undefined;
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

function introduceInOxenstored(machine: OxMachine, domid: number): void {
  try {
    machine.introduceQuietly(domid);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    throw new XenstoreError('EINVAL', `there is no domain ${domid} to introduce to xenstore`);
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
