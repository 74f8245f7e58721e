/**
 * Keeps a client connected: opens the first connection, restores a broken one with growing delays, and decides what
 * becomes of the requests in between. Knows nothing of what the requests mean beyond "may be asked twice".
 */
import { isXenstoreError, XenstoreError } from '../errors.js';
import { Op } from '../wire.js';
import { Connection } from './connection.js';
import { type Call, MAX_WAITING } from './core.js';
import {
  type ConnectOptions,
  type ReconnectPolicy,
  reconnectPolicy,
  type StoreClock,
  systemStoreClock,
} from './options.js';
import { candidatePaths, type OpenedTransport, openTransport, type Transport } from './transport.js';

export interface LinkHooks {
  readonly onEvent: (path: string, token: string) => void;
  /** Registers the watches on a new connection; rejects when that failed and another connection must be tried. */
  readonly restore: (connection: Connection) => Promise<void>;
  /** An outage has lasted longer than `holdMs`. */
  readonly onHoldExpired: (reason: XenstoreError) => void;
  /** There will be no connection any more. */
  readonly onEnded: (reason: XenstoreError) => void;
}

/** Somebody who waits for the connection. */
interface Held {
  resume(connection: Connection): void;
  fail(error: XenstoreError): void;
}

/** Asked twice, these do no harm: they are repeated when the connection broke before their answer. */
const REPEATABLE: ReadonlySet<number> = new Set([
  Op.Directory,
  Op.Read,
  Op.GetPerms,
  Op.GetDomainPath,
  Op.IsDomainIntroduced,
  Op.DirectoryPart,
]);

export class Link {
  readonly path: string;
  readonly kind: Transport['kind'];
  readonly #options: ConnectOptions;
  readonly #hooks: LinkHooks;
  readonly #policy: ReconnectPolicy | undefined;
  #current: Connection | undefined;
  #restoring: Connection | undefined;
  /** Final: closed by the owner, or given up. */
  #ended: XenstoreError | undefined;
  /** Set during an outage, once `holdMs` have passed. */
  #holdExpired: XenstoreError | undefined;
  #held: Held[] = [];
  #timers = new Set<{ cancel(): void }>();
  #tries = 0;
  #reconnects = 0;
  #connectedAtMs = 0;

  static async open(options: ConnectOptions, hooks: LinkHooks): Promise<Link> {
    const paths = options.path === undefined ? candidatePaths(options.env ?? process.env) : [options.path];
    return new Link(await openTransport(paths, options), options, hooks);
  }

  private constructor(opened: OpenedTransport, options: ConnectOptions, hooks: LinkHooks) {
    this.path = opened.path;
    this.kind = opened.transport.kind;
    this.#options = options;
    this.#hooks = hooks;
    this.#policy = reconnectPolicy(options.reconnect);
    this.#current = this.#connect(opened.transport);
  }

  /** The usable connection, if there is one. */
  get connection(): Connection | undefined {
    return this.#current;
  }

  /** The connection that requests about watches go to: it may still be registering the others. */
  get newest(): Connection | undefined {
    return this.#current ?? this.#restoring;
  }

  /** Whether a broken connection is being restored. */
  get reconnecting(): boolean {
    return this.#current === undefined && this.#ended === undefined;
  }

  get reconnects(): number {
    return this.#reconnects;
  }

  get ended(): XenstoreError | undefined {
    return this.#ended;
  }

  get clock(): StoreClock {
    return this.#options.clock ?? systemStoreClock;
  }

  get random(): () => number {
    return this.#options.random ?? Math.random;
  }

  submit(call: Call): void {
    if (this.#current !== undefined) this.#current.submit(call);
    else this.#hold({ resume: (connection) => connection.submit(call), fail: (error) => call.reject(error) });
  }

  /** The connection, after waiting up to `holdMs` for it. */
  ready(): Promise<Connection> {
    if (this.#current !== undefined) return Promise.resolve(this.#current);
    return new Promise((resume, fail) => this.#hold({ resume, fail }));
  }

  async close(): Promise<void> {
    const reason = new XenstoreError('closed', 'the xenstore client was closed');
    const connections = [this.#current, this.#restoring];
    this.#end(reason);
    await Promise.all(connections.map((connection) => connection?.close(reason)));
  }

  #connect(transport: Transport): Connection {
    this.#connectedAtMs = this.clock.now();
    return new Connection(
      transport,
      {
        onEvent: this.#hooks.onEvent,
        onBroken: (connection, reason, unanswered) => this.#onBroken(connection, reason, unanswered),
      },
      { clock: this.clock, replyTimeoutMs: this.#options.replyTimeoutMs ?? 30_000 },
    );
  }

  #hold(held: Held): void {
    const refusal = this.#ended ?? this.#holdExpired;
    if (refusal !== undefined) held.fail(refusal);
    else if (this.#held.length >= MAX_WAITING) {
      held.fail(new XenstoreError('overloaded', `${MAX_WAITING} requests wait for xenstored to come back already`));
    } else this.#held.push(held);
  }

  #onBroken(connection: Connection, reason: XenstoreError, unanswered: readonly Call[]): void {
    const wasCurrent = connection === this.#current;
    if (wasCurrent) this.#current = undefined;
    if (wasCurrent && this.#ended === undefined) this.#startOutage(reason);
    for (const call of unanswered) {
      if (this.#mayRepeat(call, reason)) this.submit(call);
      else call.reject(lost(call, reason));
    }
    // The connection that is being restored is looked after by #tryAgain.
    if (wasCurrent && this.#ended === undefined) this.#options.onDisconnect?.(reason);
  }

  #mayRepeat(call: Call, reason: XenstoreError): boolean {
    if (this.#ended !== undefined || call.transactionId !== 0 || reason.code !== 'disconnected') return false;
    // These belong to the connection that is gone.
    if (call.type === Op.Watch || call.type === Op.Unwatch || call.type === Op.TransactionStart) return false;
    return !call.sent || REPEATABLE.has(call.type);
  }

  #startOutage(reason: XenstoreError): void {
    if (this.#policy === undefined) {
      this.#end(new XenstoreError('disconnected', reason.message, { cause: reason }));
      return;
    }
    // One that was up for a while was healthy: start over with short delays.
    if (this.clock.now() - this.#connectedAtMs >= this.#policy.maxDelayMs) this.#tries = 0;
    this.#holdExpired = undefined;
    const { holdMs } = this.#policy;
    this.#after(holdMs, () => {
      if (this.#current !== undefined) return;
      const sentence = `xenstored has been away for ${holdMs} ms: ${reason.message}`;
      this.#holdExpired = new XenstoreError('disconnected', sentence, { cause: reason });
      this.#failHeld(this.#holdExpired);
      this.#hooks.onHoldExpired(this.#holdExpired);
    });
    this.#scheduleTry(reason);
  }

  #scheduleTry(reason: unknown): void {
    const policy = this.#policy;
    if (policy === undefined || this.#ended !== undefined) return;
    if (this.#tries >= policy.maxTries) {
      const sentence = `gave up reaching xenstored at ${this.path} after ${this.#tries} tries`;
      this.#end(new XenstoreError('disconnected', sentence, { cause: reason }));
      return;
    }
    const fullDelayMs = Math.min(policy.maxDelayMs, policy.firstDelayMs * 2 ** Math.min(this.#tries, 30));
    this.#tries++;
    this.#after(fullDelayMs * (1 - this.random() / 2), () => void this.#tryAgain());
  }

  async #tryAgain(): Promise<void> {
    let connection: Connection | undefined;
    try {
      const { openDevice, via } = this.#options;
      const options = {
        clock: this.clock,
        ...(openDevice === undefined ? {} : { openDevice }),
        ...(via === undefined ? {} : { via }),
      };
      const opened = await openTransport([this.path], options);
      if (this.#ended !== undefined) {
        await opened.transport.close();
        return;
      }
      connection = this.#restoring = this.#connect(opened.transport);
      await this.#hooks.restore(connection);
      if (connection.broken !== undefined) throw connection.broken;
    } catch (error) {
      this.#restoring = undefined;
      await connection?.close(asDisconnected(error));
      this.#scheduleTry(error);
      return;
    }
    this.#restoring = undefined;
    this.#resume(connection);
  }

  #resume(connection: Connection): void {
    this.#current = connection;
    this.#reconnects++;
    this.#holdExpired = undefined;
    this.#cancelTimers();
    const held = this.#held;
    this.#held = [];
    for (const waiter of held) waiter.resume(connection);
    this.#options.onReconnect?.();
  }

  #end(reason: XenstoreError): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#cancelTimers();
    this.#failHeld(reason);
    this.#hooks.onEnded(reason);
  }

  #failHeld(reason: XenstoreError): void {
    const held = this.#held;
    this.#held = [];
    for (const waiter of held) waiter.fail(reason);
  }

  #after(delayMs: number, fn: () => void): void {
    const timer = this.clock.after(delayMs, () => {
      this.#timers.delete(timer);
      fn();
    });
    this.#timers.add(timer);
  }

  #cancelTimers(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }
}

/** The error of a request that was in flight: it may have been carried out, and says so. */
function lost(call: Call, reason: XenstoreError): XenstoreError {
  const outcome = call.sent ? 'may or may not have been carried out' : 'was not sent';
  return new XenstoreError(reason.code, `${call.what} ${outcome}: ${reason.message}`, {
    cause: reason,
    ...(call.path === undefined ? {} : { path: call.path }),
  });
}

function asDisconnected(error: unknown): XenstoreError {
  if (isXenstoreError(error, 'disconnected', 'closed', 'protocol')) return error;
  return new XenstoreError('disconnected', `the connection to xenstored could not be restored: ${String(error)}`, {
    cause: error,
  });
}
