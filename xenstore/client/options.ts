/** What a XenstoreClient can be told when it connects, with the defaults. Knows only types. */
import type { XenstoreError } from '../errors.js';
import type { Transport } from './transport.js';

/** Time as a parameter; tests pass one they move themselves. */
export interface StoreClock {
  /** Milliseconds since some fixed moment. */
  now(): number;
  /** Calls `fn` once, `delayMs` milliseconds from now; `cancel` may come late or twice. */
  after(delayMs: number, fn: () => void): { cancel(): void };
}

export const systemStoreClock: StoreClock = {
  now: () => Date.now(),
  after(delayMs, fn) {
    const handle = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
};

/** How a lost connection is restored. */
export interface ReconnectOptions {
  /** Delay before the first try, ms; doubled for each further one. Default 50. */
  readonly firstDelayMs?: number;
  /** The longest delay, ms. Default 5000. Each delay is shortened by up to a half at random. */
  readonly maxDelayMs?: number;
  /** Failed tries in a row after which the client gives up for good. Default: never. */
  readonly maxTries?: number;
  /**
   * How long requests made during an outage, and reads that were interrupted by it, wait for the connection before
   * they fail with `disconnected`, ms. Default 5000.
   */
  readonly holdMs?: number;
}

export interface ConnectOptions {
  /** Socket or device. Default: as libxenstore looks for it, see `candidatePaths`. */
  readonly path?: string;
  /** Where XENSTORED_PATH and XENSTORED_RUNDIR are looked up. Default process.env. */
  readonly env?: NodeJS.ProcessEnv;
  readonly clock?: StoreClock;
  /** 0 <= random() < 1, for the jitter of reconnecting. Default Math.random. */
  readonly random?: () => number;
  /** Default true. `false`: after the connection broke everything fails with `disconnected`. */
  readonly reconnect?: boolean | ReconnectOptions;
  /**
   * When requests are in flight and none is answered for this long (up to twice as long), the connection counts as
   * broken, ms. 0: wait for ever, as libxenstore does. Default 30000.
   */
  readonly replyTimeoutMs?: number;
  /** Called when the connection broke, with the reason; not for `close()`. */
  readonly onDisconnect?: (reason: XenstoreError) => void;
  /** Called when the connection is back and all watches are registered again. */
  readonly onReconnect?: () => void;
  /** Called with what a watch listener threw or rejected with. Default: a process warning. */
  readonly onListenerError?: (error: unknown, path: string) => void;
  /** Opens `/dev/xen/xenbus`. Default: Node's file functions, see `openDeviceTransport`. */
  readonly openDevice?: (path: string) => Transport | Promise<Transport>;
  /** A stream of your own instead of a path; `name` stands for the path in sentences. See `ringOpener`. */
  readonly via?: { readonly name: string; readonly open: () => Transport | Promise<Transport> };
  /** Gives up connecting (not the connected client), with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface ReconnectPolicy {
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  readonly maxTries: number;
  readonly holdMs: number;
}

/** Undefined: do not reconnect. */
export function reconnectPolicy(option: boolean | ReconnectOptions | undefined): ReconnectPolicy | undefined {
  if (option === false) return undefined;
  const given = option === true || option === undefined ? {} : option;
  return { firstDelayMs: 50, maxDelayMs: 5000, maxTries: Number.POSITIVE_INFINITY, holdMs: 5000, ...given };
}
