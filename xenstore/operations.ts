/**
 * What can be asked of a xenstore, inside or outside a transaction. The interface that the rest of the product is
 * written against; the client implements it, tests may implement it over a map.
 */
import type { Permissions } from './permissions.js';

export interface StoreOperations {
  /** The value. Throws ENOENT, EACCES, EINVAL. */
  read(path: string): Promise<Buffer>;
  /** The value, decoded as UTF-8. Throws as `read` does. */
  readText(path: string): Promise<string>;
  /** The value as text, or undefined where the node is absent (ENOENT). Other errors are thrown. */
  tryReadText(path: string): Promise<string | undefined>;
  /** Names of the children, in the daemon's order; falls back to DIRECTORY_PART for long lists. Throws ENOENT, EACCES. */
  directory(path: string): Promise<string[]>;
  /** As `directory`, but an absent node has no children. */
  tryDirectory(path: string): Promise<string[]>;
  exists(path: string): Promise<boolean>;
  getPermissions(path: string): Promise<Permissions>;
  /** Creates missing parents. Throws E2BIG before anything is sent when path and value do not fit into 4096 bytes. */
  write(path: string, value: string | Uint8Array): Promise<void>;
  /** Creates missing parents; an existing node is left alone. */
  mkdir(path: string): Promise<void>;
  /** Removes the node and all below it; an absent node is not an error as long as its parent exists. */
  rm(path: string): Promise<void>;
  setPermissions(path: string, permissions: Permissions): Promise<void>;
}

/** Stops a watch. */
export interface Watch {
  readonly path: string;
  /** Resolves when the daemon has confirmed; no event is delivered to the listener after the call. */
  stop(): Promise<void>;
}

/**
 * Called for every watch event with the path that changed. The event says "look again" and carries no value; events
 * may be spurious. After a reconnect each listener is called once with the watched path.
 */
export type WatchListener = (path: string) => void;

export interface WaitOptions {
  /** What is waited for, for the error sentence: "frontend 3/1 connected". */
  readonly what: string;
  /** Paths whose changes cause `fn` to be called again. */
  readonly paths: readonly string[];
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface TransactionOptions {
  /** How often the function may be run in all; then XenstoreError `conflict`. Default 100. */
  readonly maxTries?: number;
}

/** A store with watches and transactions: what XenstoreClient is. */
export interface Store extends StoreOperations {
  watch(path: string, listener: WatchListener): Promise<Watch>;
  /**
   * Runs `fn` in a transaction, again on EAGAIN, up to `maxTries`. What `fn` throws aborts the transaction and is
   * passed on. `fn` must do nothing that cannot be repeated.
   */
  transaction<T>(fn: (tx: StoreOperations) => Promise<T>, options?: TransactionOptions): Promise<T>;
  /**
   * Calls `fn` at once and again on each change below `paths`, until it returns something other than undefined and
   * false. Throws XenstoreError `timeout` with what was waited for.
   */
  waitUntil<T>(fn: (store: StoreOperations) => Promise<T | undefined | false>, options: WaitOptions): Promise<T>;
  getDomainPath(domid: number): Promise<string>;
  isDomainIntroduced(domid: number): Promise<boolean>;
  introduce(domid: number, gfn: bigint, eventChannel: number): Promise<void>;
  release(domid: number): Promise<void>;
  setTarget(domid: number, target: number): Promise<void>;
  resetWatches(): Promise<void>;
  /** Ends the connection; what is in flight fails with `closed`. */
  close(): Promise<void>;
}
