/**
 * The client's half of one xenstore connection without the connection: requests in, bytes out; bytes in, answers and
 * watch events out. Knows no socket, no timer and no reconnecting.
 */
import { MessageDecoder } from '../decoder.js';
import { WIRE_ERROR_MEANING, WIRE_ERRORS, type WireError, XenstoreError } from '../errors.js';
import { HEADER_BYTES, MAX_PAYLOAD_BYTES, type Message, Op, type OpNumber, opName } from '../wire.js';
import { Fifo } from './fifo.js';

/** Requests sent and not yet answered on a socket; more wait here, so that a slow daemon is not buried. */
export const MAX_IN_FLIGHT = 64;
/** Requests that may wait for their turn; beyond it callers are refused with `overloaded`. */
export const MAX_WAITING = 16_384;
/** Requests of one tick are joined into writes of about this size. */
const BATCH_BYTES = 64 * 1024;
/**
 * oxenstored answers DIRECTORY of a huge directory on a socket with one oversize message instead of E2BIG
 * (seen on Xen 4.17). Nothing else may exceed 4096 bytes.
 */
const MAX_DIRECTORY_REPLY_BYTES = 1024 * 1024;

/** One request, from the caller to its answer. */
export class Call {
  /** The payload of the answer; rejects with XenstoreError. */
  readonly promise: Promise<Buffer>;
  resolve!: (payload: Buffer) => void;
  reject!: (error: XenstoreError) => void;
  /** Whether it was handed to the transport: if not, the daemon cannot have acted on it. */
  sent = false;
  requestId = 0;

  constructor(
    readonly type: OpNumber,
    readonly transactionId: number,
    readonly payload: Buffer,
    readonly path: string | undefined,
  ) {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** `READ of '/a'`, for error sentences. */
  get what(): string {
    return this.path === undefined ? opName(this.type) : `${opName(this.type)} of '${this.path.slice(0, 80)}'`;
  }
}

export interface CoreOptions {
  /** Requests that may be unanswered at a time. */
  readonly window: number;
  /** The Linux device takes one message per write() and forgets what follows it. */
  readonly oneMessagePerWrite: boolean;
  /** Whether answers repeat the request's id: daemons do, kernels before 5.10 put in their own. */
  readonly requestIdsEchoed: boolean;
  readonly onEvent: (path: string, token: string) => void;
}

export class ClientCore {
  readonly #options: CoreOptions;
  readonly #decoder = new MessageDecoder((type) =>
    type === Op.Directory ? MAX_DIRECTORY_REPLY_BYTES : MAX_PAYLOAD_BYTES,
  );
  readonly #waiting = new Fifo<Call>();
  readonly #inFlight = new Fifo<Call>();
  readonly #onMessage = (message: Message): void => this.#receiveOne(message);
  #lastRequestId = 0;
  #answered = 0;

  constructor(options: CoreOptions) {
    this.#options = options;
  }

  /** Answers received so far: a watchdog compares it with an earlier value. */
  get answered(): number {
    return this.#answered;
  }

  get inFlight(): number {
    return this.#inFlight.length;
  }

  /** The request that has waited longest for its answer. */
  get oldestInFlight(): Call | undefined {
    return this.#inFlight.peek();
  }

  /** Queues a request. Rejects it with `overloaded` when too many wait, unless it is `urgent`. */
  submit(call: Call, { urgent = false } = {}): void {
    if (this.#waiting.length >= MAX_WAITING && !urgent) {
      call.reject(
        new XenstoreError('overloaded', `${call.what} refused: ${MAX_WAITING} requests are waiting already`, {
          ...(call.path === undefined ? {} : { path: call.path }),
        }),
      );
      return;
    }
    this.#waiting.push(call);
  }

  /** The next bytes to write, or undefined when nothing may be sent now. */
  takeOutput(): Buffer | undefined {
    const batch: Call[] = [];
    let bytes = 0;
    const room = this.#options.oneMessagePerWrite ? 1 : this.#options.window;
    while (batch.length < room && this.#inFlight.length < this.#options.window && bytes < BATCH_BYTES) {
      const call = this.#waiting.shift();
      if (call === undefined) break;
      bytes += HEADER_BYTES + call.payload.length;
      this.#inFlight.push(call);
      batch.push(call);
    }
    if (batch.length === 0) return undefined;
    const output = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (const call of batch) at = this.#encode(call, output, at);
    return output;
  }

  /** Takes received bytes. Throws XenstoreError `protocol` when the peer is no xenstored; the core is then useless. */
  receive(chunk: Buffer): void {
    this.#decoder.push(chunk, this.#onMessage);
  }

  /** The transport refused the request sent last with an errno of its own (only where the window is 1). */
  refuse(errno: string): void {
    const call = this.#inFlight.shift();
    if (call === undefined) throw new XenstoreError('protocol', `xenstore device failed with ${errno} unasked`);
    this.#answered++;
    call.reject(wireError(call, errno));
  }

  /** Bytes of an unfinished incoming message. */
  get pendingBytes(): number {
    return this.#decoder.pendingBytes;
  }

  /** Takes out all unanswered requests, in order: the connection is gone. */
  drain(): Call[] {
    return [...this.#inFlight.drain(), ...this.#waiting.drain()];
  }

  #encode(call: Call, output: Buffer, at: number): number {
    this.#lastRequestId = (this.#lastRequestId + 1) >>> 0;
    call.requestId = this.#lastRequestId;
    call.sent = true;
    output.writeUInt32LE(call.type, at);
    output.writeUInt32LE(call.requestId, at + 4);
    output.writeUInt32LE(call.transactionId, at + 8);
    output.writeUInt32LE(call.payload.length, at + 12);
    output.set(call.payload, at + HEADER_BYTES);
    return at + HEADER_BYTES + call.payload.length;
  }

  #receiveOne(message: Message): void {
    if (message.type === Op.WatchEvent) {
      this.#receiveEvent(message.payload);
      return;
    }
    const call = this.#inFlight.peek();
    if (call === undefined) {
      throw new XenstoreError('protocol', `xenstored sent an answer to ${opName(message.type)} that nobody asked for`);
    }
    if (this.#options.requestIdsEchoed && message.requestId !== call.requestId) {
      throw new XenstoreError(
        'protocol',
        `xenstored answered request ${message.requestId} while ${call.requestId} (${call.what}) was next`,
      );
    }
    if (message.type !== call.type && message.type !== Op.Error) {
      throw new XenstoreError('protocol', `xenstored answered ${call.what} with ${opName(message.type)}`);
    }
    this.#inFlight.shift();
    this.#answered++;
    if (message.type === Op.Error) call.reject(wireError(call, firstString(message.payload)));
    else call.resolve(message.payload);
  }

  #receiveEvent(payload: Buffer): void {
    const pathEnd = payload.indexOf(0);
    const tokenEnd = payload.indexOf(0, pathEnd + 1);
    if (pathEnd < 0 || tokenEnd !== payload.length - 1) {
      throw new XenstoreError(
        'protocol',
        `xenstored sent a watch event of ${payload.length} bytes that is not two strings`,
      );
    }
    this.#options.onEvent(payload.toString('utf8', 0, pathEnd), payload.toString('utf8', pathEnd + 1, tokenEnd));
  }
}

function firstString(payload: Buffer): string {
  const end = payload.indexOf(0);
  return payload.toString('latin1', 0, Math.min(end < 0 ? payload.length : end, 40));
}

function isWireError(name: string): name is WireError {
  return (WIRE_ERRORS as readonly string[]).includes(name);
}

/**
 * The error for an ERROR reply. Names outside of xs_wire.h become EINVAL as in libxenstore, except oxenstored's EQUOTA,
 * which says what C xenstored calls ENOSPC.
 */
function wireError(call: Call, name: string): XenstoreError {
  const code: WireError = isWireError(name) ? name : name === 'EQUOTA' ? 'ENOSPC' : 'EINVAL';
  const said = code === name ? code : `'${name.replace(/[^\x20-\x7e]/g, '?')}', taken as ${code}`;
  return new XenstoreError(code, `xenstored refused ${call.what}: ${said} (${WIRE_ERROR_MEANING[code]})`, {
    ...(call.path === undefined ? {} : { path: call.path }),
  });
}
