/**
 * Waiting for a condition over the store: evaluated on each change, never twice at a time, and given up in time.
 * Knows watches and a clock, no connection.
 */
import { isXenstoreError, XenstoreError } from '../errors.js';
import type { StoreOperations, WaitOptions } from '../operations.js';
import type { StoreClock } from './options.js';

/** The longest delay setTimeout can do; a longer one would fire at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export interface WaitHost {
  readonly store: StoreOperations;
  readonly clock: StoreClock;
  /** Whether a lost connection is being restored: then `disconnected` means "not yet". */
  readonly reconnecting: () => boolean;
  /** Registers a watch that survives outages; `onLost` is called when it was refused or is gone for good. */
  readonly watch: (path: string, onEvent: () => void, onLost: (reason: XenstoreError) => void) => Stoppable;
}

interface Stoppable {
  stop(): Promise<void>;
}

type Condition<T> = (store: StoreOperations) => Promise<T | undefined | false>;

export async function waitUntil<T>(host: WaitHost, fn: Condition<T>, options: WaitOptions): Promise<T> {
  const { what, paths, timeoutMs, signal } = options;
  if (!(timeoutMs >= 0 && timeoutMs <= MAX_TIMEOUT_MS)) {
    throw new XenstoreError('EINVAL', `a timeout of ${timeoutMs} ms is outside 0-${MAX_TIMEOUT_MS}`);
  }
  signal?.throwIfAborted();
  const evaluation = new Evaluation(host, fn);
  const timer = host.clock.after(timeoutMs, () =>
    evaluation.fail(new XenstoreError('timeout', `${what}: did not happen within ${timeoutMs} ms`)),
  );
  const onAbort = (): void => evaluation.fail(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  const watches: Stoppable[] = [];
  try {
    for (const path of paths) {
      watches.push(
        host.watch(
          path,
          () => evaluation.changed(),
          (reason) => evaluation.fail(reason),
        ),
      );
    }
    evaluation.changed();
    return await evaluation.result;
  } finally {
    timer.cancel();
    signal?.removeEventListener('abort', onAbort);
    await Promise.all(watches.map((watch) => watch.stop()));
  }
}

/** Runs the condition again and again, as often as something changed, one run at a time. */
class Evaluation<T> {
  readonly result: Promise<T>;
  readonly #host: WaitHost;
  readonly #fn: Condition<T>;
  #resolve!: (value: T) => void;
  #reject!: (error: unknown) => void;
  #settled = false;
  #running = false;
  #dirty = false;

  constructor(host: WaitHost, fn: Condition<T>) {
    this.#host = host;
    this.#fn = fn;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // It may fail before anybody awaits it.
    this.result.catch(() => {});
  }

  /** Something may have changed: look (again). */
  changed(): void {
    this.#dirty = true;
    if (!this.#running && !this.#settled) void this.#run();
  }

  fail(error: unknown): void {
    this.#settled = true;
    this.#reject(error);
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#dirty && !this.#settled) {
      this.#dirty = false;
      try {
        const value = await this.#fn(this.#host.store);
        if (value !== undefined && value !== false) {
          this.#settled = true;
          this.#resolve(value as T);
        }
      } catch (error) {
        if (!this.#meansNotYet(error)) this.fail(error);
      }
    }
    this.#running = false;
  }

  /** After an outage each watch reports once, so that nothing is missed. */
  #meansNotYet(error: unknown): boolean {
    return isXenstoreError(error, 'ENOENT') || (isXenstoreError(error, 'disconnected') && this.#host.reconnecting());
  }
}
