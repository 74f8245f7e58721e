/**
 * Transactions against a guest that writes to its consoles without end: each of its writes makes a transaction that has
 * looked at the node fail, so that an admin could never take a channel off. Knows no channel.
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store, StoreOperations } from '../../xenstore/index.js';

/** A correct guest writes a few times in a handshake; who disturbs more often means it, or might as well. */
const POLITE_TRIES = 12;

/**
 * Runs `fn` in a transaction; when others keep disturbing it, once more with everything at and below `contested` outside
 * of the transaction: each request is then atomic by itself only. `fn` must bear that.
 */
export async function transactionDespite<T>(
  store: Store,
  contested: string,
  fn: (tx: StoreOperations) => Promise<T>,
): Promise<T> {
  try {
    return await store.transaction(fn, { maxTries: POLITE_TRIES });
  } catch (error) {
    if (!isXenstoreError(error, 'conflict')) throw error;
    return store.transaction((tx) => fn(splitAt(contested, store, tx)));
  }
}

function splitAt(contested: string, store: StoreOperations, tx: StoreOperations): StoreOperations {
  const at = (path: string): StoreOperations => (path === contested || path.startsWith(`${contested}/`) ? store : tx);
  return {
    read: (path) => at(path).read(path),
    readText: (path) => at(path).readText(path),
    tryReadText: (path) => at(path).tryReadText(path),
    directory: (path) => at(path).directory(path),
    tryDirectory: (path) => at(path).tryDirectory(path),
    exists: (path) => at(path).exists(path),
    getPermissions: (path) => at(path).getPermissions(path),
    write: (path, value) => at(path).write(path, value),
    mkdir: (path) => at(path).mkdir(path),
    rm: (path) => at(path).rm(path),
    setPermissions: (path, wanted) => at(path).setPermissions(path, wanted),
  };
}
