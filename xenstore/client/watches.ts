/**
 * The watches of a client: who gets which event, in what order, and never after being stopped. Knows no connection;
 * what outlives a reconnect is here.
 */
import type { XenstoreError } from '../errors.js';
import type { WatchListener } from '../operations.js';

/** Different paths that may wait for one listener; beyond that it gets one event for the watched path instead. */
export const MAX_QUEUED_EVENTS = 1024;

export interface WatchCounters {
  /** Watch events received. */
  readonly received: number;
  /** Events dropped because the same one was waiting for the listener already. */
  readonly coalesced: number;
  /** Times that more than MAX_QUEUED_EVENTS waited and were replaced by one event for the watched path. */
  readonly overflowed: number;
  /** Events for watches that were stopped meanwhile. */
  readonly ignored: number;
  /** Exceptions and rejections of listeners. */
  readonly listenerErrors: number;
}

export class WatchEntry {
  /** Waiting events by path, in order. */
  readonly queue = new Set<string>();
  /** Settles when the daemon has confirmed the watch for the first time, or refused it. */
  readonly ready: Promise<void>;
  resolve!: () => void;
  reject!: (error: XenstoreError) => void;
  confirmed = false;
  stopped = false;

  constructor(
    readonly token: string,
    readonly path: string,
    readonly listener: WatchListener,
    /** Called when no event will ever come any more, but not when the watch is merely stopped. */
    readonly onLost: ((reason: XenstoreError) => void) | undefined,
  ) {
    this.ready = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Whoever wants to know awaits `ready`; a watch that nobody waits for any more must not end the process.
    this.ready.catch(() => {});
  }

  get payload(): Buffer {
    return Buffer.from(`${this.path}\0${this.token}\0`);
  }
}

export class WatchRegistry {
  readonly #entries = new Map<string, WatchEntry>();
  readonly #due = new Set<WatchEntry>();
  readonly #onListenerError: (error: unknown, path: string) => void;
  readonly #deliver = (): void => this.#deliverNow();
  #scheduled = false;
  #lastToken = 0;
  #received = 0;
  #coalesced = 0;
  #overflowed = 0;
  #ignored = 0;
  #listenerErrors = 0;

  constructor(onListenerError: (error: unknown, path: string) => void) {
    this.#onListenerError = onListenerError;
  }

  get counters(): WatchCounters {
    return {
      received: this.#received,
      coalesced: this.#coalesced,
      overflowed: this.#overflowed,
      ignored: this.#ignored,
      listenerErrors: this.#listenerErrors,
    };
  }

  /** In order of registration. */
  all(): WatchEntry[] {
    return [...this.#entries.values()];
  }

  /** From now on events with the new entry's token are kept for it; delivered once it is confirmed. */
  add(path: string, listener: WatchListener, onLost?: (reason: XenstoreError) => void): WatchEntry {
    const entry = new WatchEntry(`w${++this.#lastToken}`, path, listener, onLost);
    this.#entries.set(entry.token, entry);
    return entry;
  }

  /** The daemon knows the watch: its events may be delivered. */
  confirm(entry: WatchEntry): void {
    entry.confirmed = true;
    entry.resolve();
    if (entry.queue.size > 0) this.#schedule(entry);
  }

  /** Nothing is delivered from here on. */
  remove(entry: WatchEntry): void {
    entry.stopped = true;
    entry.queue.clear();
    this.#entries.delete(entry.token);
    this.#due.delete(entry);
  }

  /** The watch is gone for good, and not because its owner wanted it. */
  drop(entry: WatchEntry, reason: XenstoreError): void {
    if (entry.stopped) return;
    this.remove(entry);
    entry.reject(reason);
    entry.onLost?.(reason);
  }

  dropAll(reason: XenstoreError): void {
    for (const entry of this.all()) this.drop(entry, reason);
  }

  event(path: string, token: string): void {
    this.#received++;
    const entry = this.#entries.get(token);
    if (entry === undefined) {
      this.#ignored++;
      return;
    }
    if (entry.queue.has(path)) {
      this.#coalesced++;
      return;
    }
    if (entry.queue.size >= MAX_QUEUED_EVENTS) {
      this.#overflowed++;
      entry.queue.clear();
      // "Look again at everything" says no less than the single paths did.
      entry.queue.add(entry.path);
    }
    entry.queue.add(path);
    if (entry.confirmed) this.#schedule(entry);
  }

  /**
   * After the promises of this turn: whoever awaits `watch()` or a write has its answer before the listener is called.
   */
  #schedule(entry: WatchEntry): void {
    this.#due.add(entry);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#deliver);
  }

  #deliverNow(): void {
    this.#scheduled = false;
    const due = [...this.#due];
    this.#due.clear();
    for (const entry of due) {
      const paths = [...entry.queue];
      entry.queue.clear();
      for (const path of paths) {
        if (entry.stopped) break;
        this.#call(entry, path);
      }
    }
  }

  #call(entry: WatchEntry, path: string): void {
    try {
      const result: unknown = entry.listener(path);
      // An async function is a legal listener, too.
      if (result instanceof Promise) result.catch((error: unknown) => this.#report(error, path));
    } catch (error) {
      this.#report(error, path);
    }
  }

  #report(error: unknown, path: string): void {
    this.#listenerErrors++;
    this.#onListenerError(error, path);
  }
}
