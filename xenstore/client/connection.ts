/**
 * One connection: joins the protocol core to a transport. Batches the requests of a tick into one write, holds back
 * while the transport is full, and notices a daemon that stopped answering. Never reconnects.
 */
import { isXenstoreError, XenstoreError } from '../errors.js';
import { MAX_PAYLOAD_BYTES, type OpNumber } from '../wire.js';
import { Call, ClientCore, MAX_IN_FLIGHT } from './core.js';
import type { StoreClock } from './options.js';
import type { Transport } from './transport.js';

/** The kernel's buffer holds header and payload together (linux:drivers/xen/xenbus/xenbus_dev_frontend.c). */
export const MAX_DEVICE_PAYLOAD_BYTES = MAX_PAYLOAD_BYTES - 16;

export interface ConnectionHandlers {
  readonly onEvent: (path: string, token: string) => void;
  /** The connection is useless from now on. `unanswered` are the requests in flight and in the queue, in order. */
  readonly onBroken: (connection: Connection, reason: XenstoreError, unanswered: readonly Call[]) => void;
}

export interface ConnectionOptions {
  readonly clock: StoreClock;
  /** 0: never. */
  readonly replyTimeoutMs: number;
}

export interface CallOptions {
  readonly path?: string;
  readonly transactionId?: number;
  /** Passes the limit on waiting requests: what gives something back must not be refused. */
  readonly urgent?: boolean;
}

export class Connection {
  readonly kind: Transport['kind'];
  /** Longest payload of a request. */
  readonly maxPayloadBytes: number;
  readonly #transport: Transport;
  readonly #core: ClientCore;
  readonly #handlers: ConnectionHandlers;
  readonly #options: ConnectionOptions;
  readonly #flush = (): void => this.#flushNow();
  #flushScheduled = false;
  #blocked = false;
  #broken: XenstoreError | undefined;
  #watchdog: { cancel(): void } | undefined;

  constructor(transport: Transport, handlers: ConnectionHandlers, options: ConnectionOptions) {
    const device = transport.kind === 'device';
    this.kind = transport.kind;
    this.maxPayloadBytes = device ? MAX_DEVICE_PAYLOAD_BYTES : MAX_PAYLOAD_BYTES;
    this.#transport = transport;
    this.#handlers = handlers;
    this.#options = options;
    this.#core = new ClientCore({
      // The kernel answers WATCH by itself and may overtake the daemon, so that order is only kept one at a time.
      window: device ? 1 : MAX_IN_FLIGHT,
      oneMessagePerWrite: device,
      requestIdsEchoed: !device,
      onEvent: handlers.onEvent,
    });
    transport.start({
      onData: (chunk) => this.#receive(() => this.#core.receive(chunk)),
      onRefused: (errno) => this.#receive(() => this.#core.refuse(errno)),
      onWritable: () => {
        this.#blocked = false;
        this.#scheduleFlush();
      },
      onClosed: (cause) => this.#break(disconnected(cause)),
    });
  }

  /** Why the connection ended, or undefined while it is usable. */
  get broken(): XenstoreError | undefined {
    return this.#broken;
  }

  /** Asks. The promise of the call rejects as the daemon says, or with why the connection broke. */
  call(type: OpNumber, payload: Buffer, { path, transactionId = 0, urgent = false }: CallOptions = {}): Call {
    const call = new Call(type, transactionId, payload, path);
    this.submit(call, { urgent });
    return call;
  }

  submit(call: Call, options?: { urgent: boolean }): void {
    if (this.#broken !== undefined) {
      call.reject(this.#broken);
      return;
    }
    this.#core.submit(call, options);
    this.#scheduleFlush();
  }

  /** Ends the connection; unanswered requests are given to `onBroken` with this reason. */
  async close(reason: XenstoreError): Promise<void> {
    this.#break(reason);
    await this.#transport.close();
  }

  #receive(step: () => void): void {
    if (this.#broken !== undefined) return;
    try {
      step();
    } catch (error) {
      // Anything but a protocol error would be a bug of ours, but this stream is lost all the same.
      this.#break(isXenstoreError(error) ? error : new XenstoreError('protocol', String(error), { cause: error }));
      return;
    }
    this.#scheduleFlush();
  }

  /** After the promises of this tick, so that all they ask for goes out in one write. */
  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    process.nextTick(this.#flush);
  }

  #flushNow(): void {
    this.#flushScheduled = false;
    while (!this.#blocked && this.#broken === undefined) {
      const output = this.#core.takeOutput();
      if (output === undefined) break;
      if (!this.#transport.write(output)) this.#blocked = true;
    }
    if (this.#core.inFlight > 0 && this.#watchdog === undefined) this.#watch();
  }

  /** Looks every `replyTimeoutMs` whether anything was answered; counts answers, so that a clock jump is harmless. */
  #watch(): void {
    const { clock, replyTimeoutMs } = this.#options;
    if (replyTimeoutMs === 0 || this.#broken !== undefined) return;
    const answered = this.#core.answered;
    const oldest = this.#core.oldestInFlight;
    this.#watchdog = clock.after(replyTimeoutMs, () => {
      this.#watchdog = undefined;
      const stuck = this.#core.oldestInFlight;
      if (stuck === undefined) return;
      if (stuck !== oldest || this.#core.answered !== answered) {
        this.#watch();
        return;
      }
      this.#break(
        new XenstoreError('disconnected', `xenstored has not answered ${stuck.what} for ${replyTimeoutMs} ms`),
      );
    });
  }

  #break(reason: XenstoreError): void {
    if (this.#broken !== undefined) return;
    this.#broken = reason;
    this.#watchdog?.cancel();
    void this.#transport.close();
    this.#handlers.onBroken(this, reason, this.#core.drain());
  }
}

function disconnected(cause: Error | undefined): XenstoreError {
  const why =
    cause === undefined ? 'xenstored closed the connection' : `the connection to xenstored broke: ${cause.message}`;
  return new XenstoreError('disconnected', why, cause === undefined ? {} : { cause });
}
