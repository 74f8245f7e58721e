/** What most commands begin with: a connection to xenstore, closed again whatever happens, and the host they act on. */
import type { Store } from '../../xenstore/index.js';
import type { Dom0Environment } from '../dom0/environment.js';
import { type Io, runDirectoryOf, stateDirectoryOf } from './io.js';

export function dom0EnvironmentOf(io: Io): Dom0Environment {
  const { env, clock } = io;
  return { runDirectory: runDirectoryOf(env), stateDirectory: stateDirectoryOf(env), backendDomid: 0, clock };
}

/** Runs `fn` with a store found as libxenstore finds it (XENSTORED_PATH, XENSTORED_RUNDIR, the usual places). */
export async function withStore<T>(io: Io, fn: (store: Store) => Promise<T>): Promise<T> {
  const { XenstoreClient } = await import('../../xenstore/client/client.js');
  // A command ends with the daemon it talks to: no waiting for another one.
  const store = await XenstoreClient.connect({ env: io.env, clock: io.clock, reconnect: false, signal: io.signal });
  try {
    return await untilAborted(io.signal, fn(store));
  } finally {
    await store.close();
  }
}

/** Settles with `work`, or fails with the reason of the signal, whichever comes first. */
export async function untilAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, fail) => {
    onAbort = () => fail(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** For commands that run until they are told to stop, which is their orderly end. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((settle) => {
    if (signal.aborted) settle();
    else signal.addEventListener('abort', () => settle(), { once: true });
  });
}
