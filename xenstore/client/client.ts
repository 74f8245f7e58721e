/**
 * The xenstore client: what a program uses. Puts operations, watches, transactions and waiting on one connection that
 * restores itself. Protocol decisions are in core.ts and operations.ts, outages in link.ts.
 */
import { isXenstoreError, XenstoreError } from '../errors.js';
import type { Store, StoreOperations, TransactionOptions, WaitOptions, Watch, WatchListener } from '../operations.js';
import { checkPath } from '../path.js';
import { MAX_PAYLOAD_BYTES, Op, type OpNumber } from '../wire.js';
import type { Connection } from './connection.js';
import { MAX_DEVICE_PAYLOAD_BYTES } from './connection.js';
import { Call } from './core.js';
import { Link } from './link.js';
import { RequestOperations, splitStrings, strings } from './operations.js';
import type { ConnectOptions } from './options.js';
import { runTransaction } from './transaction.js';
import type { Transport } from './transport.js';
import { waitUntil } from './wait.js';
import { type WatchCounters, type WatchEntry, WatchRegistry } from './watches.js';

export interface ClientCounters {
  /** Times the connection was restored. */
  readonly reconnects: number;
  readonly watchEvents: WatchCounters;
}

/**
 * A connection to a xenstore daemon.
 *
 * Requests are answered in the order in which they are made, and may be made without awaiting each other. All errors
 * are XenstoreError; besides those that the daemon sends, every operation may throw
 * - `disconnected`: the connection broke. Reads outside of a transaction, and requests that had not been sent, are
 *   repeated by themselves once the connection is back (within `holdMs`); a write in flight is not, as it may have
 *   been carried out, and says so.
 * - `closed`: after `close`.
 * - `protocol`: the peer sent what no xenstored sends; the connection is given up.
 * - `overloaded`: more than 16384 requests are waiting.
 */
export class XenstoreClient extends RequestOperations implements Store {
  readonly #link: Link;
  readonly #watches: WatchRegistry;

  /**
   * Connects to the daemon at `options.path`, or where libxenstore would look for it: XENSTORED_PATH,
   * XENSTORED_RUNDIR, /run/xenstored/socket, /dev/xen/xenbus.
   * Throws XenstoreError `unreachable` with the paths and the errno of each, or `not-permitted`; the reason of
   * `signal` when it was aborted. This first connection is tried once only.
   */
  static async connect(options: ConnectOptions = {}): Promise<XenstoreClient> {
    const watches = new WatchRegistry(options.onListenerError ?? warn);
    const link = await Link.open(options, {
      onEvent: (path, token) => watches.event(path, token),
      restore: (connection) => restoreWatches(watches, connection),
      onHoldExpired: (reason) => dropUnconfirmed(watches, reason),
      onEnded: (reason) => watches.dropAll(reason),
    });
    return new XenstoreClient(link, watches);
  }

  private constructor(link: Link, watches: WatchRegistry) {
    super();
    this.#link = link;
    this.#watches = watches;
  }

  /** The socket or device of the daemon. */
  get path(): string {
    return this.#link.path;
  }

  /** False during an outage and after the end. */
  get connected(): boolean {
    return this.#link.connection !== undefined;
  }

  get counters(): ClientCounters {
    return { reconnects: this.#link.reconnects, watchEvents: this.#watches.counters };
  }

  /**
   * Calls `listener` once soon after registration and then for each change at or below `path`, with the path that
   * changed (relative if `path` is). Not before this promise is resolved; a path that changed several times before its
   * turn is reported once. `@introduceDomain` and `@releaseDomain` can be watched, too.
   * Throws EINVAL for an illegal path, ENOSPC (Xen < 4.22: E2BIG) when the quota of watches is used up.
   */
  async watch(path: string, listener: WatchListener): Promise<Watch> {
    const entry = this.#addWatch(path, listener);
    await entry.ready;
    let stopped: Promise<void> | undefined;
    return {
      path,
      stop: () => {
        stopped ??= this.#removeWatch(entry);
        return stopped;
      },
    };
  }

  /**
   * As `Store.transaction`. Throws `conflict` after `maxTries`. An attempt during which the connection broke is
   * repeated, too, unless the answer to the commit is what got lost: then `disconnected` says that the outcome is
   * unknown. This client can be used inside `fn`, outside of the transaction.
   */
  transaction<T>(fn: (tx: StoreOperations) => Promise<T>, options?: TransactionOptions): Promise<T> {
    return runTransaction(this.#link, fn, options);
  }

  /**
   * As `Store.waitUntil`; ENOENT thrown by `fn` means "not yet", and so does an outage. Throws the reason of `signal`.
   * The time limit includes everything; what `fn` is doing then is left alone.
   */
  waitUntil<T>(fn: (store: StoreOperations) => Promise<T | undefined | false>, options: WaitOptions): Promise<T> {
    return waitUntil(
      {
        store: this,
        clock: this.#link.clock,
        reconnecting: () => this.#link.reconnecting,
        watch: (path, onEvent, onLost) => {
          const entry = this.#addWatch(path, onEvent, onLost);
          return { stop: () => this.#removeWatch(entry) };
        },
      },
      fn,
      options,
    );
  }

  /** `/local/domain/<domid>`, without looking whether the domain exists. */
  async getDomainPath(domid: number): Promise<string> {
    return text(await this.#askNumbers(Op.GetDomainPath, domid));
  }

  /** Only for privileged domains. */
  async isDomainIntroduced(domid: number): Promise<boolean> {
    return text(await this.#askNumbers(Op.IsDomainIntroduced, domid)) === 'T';
  }

  /** Tells the daemon about a new domain, its ring page and event channel; toolstacks do. Fires `@introduceDomain`. */
  async introduce(domid: number, gfn: bigint, eventChannel: number): Promise<void> {
    await this.#askNumbers(Op.Introduce, domid, gfn, eventChannel);
  }

  /** Tells the daemon that a domain is gone. Fires `@releaseDomain`. Throws ENOENT (oxenstored: EINVAL). */
  async release(domid: number): Promise<void> {
    await this.#askNumbers(Op.Release, domid);
  }

  /** Gives `domid` the rights of `target` as well, as a device model domain has those of the domain it serves. */
  async setTarget(domid: number, target: number): Promise<void> {
    await this.#askNumbers(Op.SetTarget, domid, target);
  }

  /**
   * Drops all watches and transactions of this connection; listeners are not called any more.
   * Throws EPERM over the device, where the daemon would forget the watches of the domain's own kernel, too.
   */
  async resetWatches(): Promise<void> {
    if (this.transportKind === 'device') {
      throw new XenstoreError('EPERM', `resetting watches over ${this.path} would take away those of the kernel`);
    }
    this.#watches.dropAll(new XenstoreError('closed', 'all watches of this xenstore client were reset'));
    await this.ask(Op.ResetWatches, strings(''));
  }

  /** Runs a daemon command such as `print` or `help` (CONTROL); each daemon has its own. Returns what it says. */
  async control(command: string, ...args: readonly string[]): Promise<string> {
    const payload = strings(command, ...args);
    this.checkPayload(payload);
    return text(await this.ask(Op.Control, payload));
  }

  /** Ends the connection; resolves when the descriptor is released. A second call does nothing. */
  async close(): Promise<void> {
    await this.#link.close();
  }

  protected override ask(type: OpNumber, payload: Buffer, path?: string): Promise<Buffer> {
    const call = new Call(type, 0, payload, path);
    this.#link.submit(call);
    return call.promise;
  }

  protected override get maxPayloadBytes(): number {
    return this.#link.kind === 'device' ? MAX_DEVICE_PAYLOAD_BYTES : MAX_PAYLOAD_BYTES;
  }

  protected override get transportKind(): Transport['kind'] {
    return this.#link.kind;
  }

  #askNumbers(type: OpNumber, domid: number, ...others: readonly (number | bigint)[]): Promise<Buffer> {
    for (const number of [domid, ...others]) {
      if (typeof number === 'bigint' ? number < 0n : !Number.isInteger(number) || number < 0) {
        return Promise.reject(new XenstoreError('EINVAL', `${number} is no number that xenstored takes`));
      }
    }
    if (domid > 0xffff) return Promise.reject(new XenstoreError('EINVAL', `domain id ${domid} is outside 0-65535`));
    return this.ask(type, strings(...[domid, ...others].map(String)));
  }

  /** With `onLost` the watch stays registered through an outage of any length, even when not confirmed yet. */
  #addWatch(path: string, listener: WatchListener, onLost?: (reason: XenstoreError) => void): WatchEntry {
    checkPath(path);
    const { ended, newest } = this.#link;
    if (ended !== undefined) throw ended;
    const entry = this.#watches.add(path, listener, onLost);
    // During an outage it is registered with the others when the connection is back.
    if (newest !== undefined) this.#register(entry, newest);
    return entry;
  }

  #register(entry: WatchEntry, connection: Connection): void {
    const { promise } = connection.call(Op.Watch, entry.payload, { path: entry.path });
    promise.then(
      () => this.#watches.confirm(entry),
      (error: XenstoreError) => {
        // Lost with its connection, it is registered on the next one.
        if (connection.broken === undefined) this.#watches.drop(entry, error);
      },
    );
  }

  async #removeWatch(entry: WatchEntry): Promise<void> {
    if (entry.stopped) return;
    this.#watches.remove(entry);
    const call = this.#link.newest?.call(Op.Unwatch, entry.payload, { path: entry.path, urgent: true });
    // ENOENT: it had been refused, or reset. Disconnected: it is gone with its connection.
    await call?.promise.catch((error: unknown) => {
      if (!isXenstoreError(error, 'ENOENT', 'disconnected', 'closed', 'protocol')) throw error;
    });
  }
}

/** Registers all watches on a new connection, in order; the daemon's first event then calls each listener once. */
async function restoreWatches(watches: WatchRegistry, connection: Connection): Promise<void> {
  const answers = watches.all().map(async (entry) => {
    const options = { path: entry.path, urgent: true };
    await connection.call(Op.Watch, entry.payload, options).promise;
    if (!entry.stopped) watches.confirm(entry);
    // Given up meanwhile; stopping it has asked the same, in which case the daemon says ENOENT.
    else connection.call(Op.Unwatch, entry.payload, options).promise.catch(() => {});
  });
  await Promise.all(answers);
}

/** Those who wait for a watch to be registered wait no longer than other requests do. */
function dropUnconfirmed(watches: WatchRegistry, reason: XenstoreError): void {
  for (const entry of watches.all()) {
    if (!entry.confirmed && entry.onLost === undefined) watches.drop(entry, reason);
  }
}

function text(payload: Buffer): string {
  return splitStrings(payload).join('\n');
}

function warn(error: unknown, path: string): void {
  process.emitWarning(`a xenstore watch listener failed on '${path}': ${String(error)}`);
}
