/**
 * The guest agent: watches this guest's own consoles, finds each channel's terminal, keeps it raw and makes the links.
 * One pass (`#pass`) compares what is with what should be; everything that happens only asks for another pass.
 */
import type { Store, Watch } from '../../xenstore/index.js';
import type { Clock, Timer } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import { Assignments, type Outcome } from './assignments.js';
import type { Certainty } from './deduce.js';
import type { ResolvedChannel } from './describe.js';
import { OWN_CONSOLES } from './frontend.js';
import { Keeper } from './keeper.js';
import type { TtyLines } from './lines.js';
import { LinkSet } from './links.js';
import { LineRecord } from './record.js';
import { Resolver } from './resolve.js';
import { SystemLines } from './tty.js';

export interface GuestAgentOptions {
  /** Links are made from this certainty on. Default: `deduced`. */
  readonly minimum?: Certainty;
  /** Links in /dev/virtio-ports, too. Default: no. */
  readonly virtioPorts?: boolean;
  /** How long a backend may take to answer a question. Default: 1000. */
  readonly answerTimeoutMs?: number;
  /** Where processes are listed, to see which lines are in use. Default: `/proc`. */
  readonly proc?: string;
  /** Processes that do not count as users of a line, besides this one. */
  readonly ignoredPids?: readonly number[];
  /** False: stty and looking from time to time, as where koffi is not installed. */
  readonly nativeCalls?: boolean;
  /** Instead of the terminals below `root`. */
  readonly lines?: TtyLines;
}

export interface GuestAgentSetup {
  /** This guest's own xenstore. */
  readonly store: Store;
  /** `/` on a real guest; its devices are `<root>/dev/...`. */
  readonly root: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: (bytes: number) => Uint8Array;
  readonly options?: GuestAgentOptions;
}

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 60_000;

export class GuestAgent {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #assignments: Assignments;
  readonly #stopping = new AbortController();
  readonly #listeners = new Set<() => void>();
  #watch: Watch | undefined;
  #retry: Timer | undefined;
  #retryMs = FIRST_RETRY_MS;
  #running: Promise<void> | undefined;
  #again = false;
  #due = false;

  private constructor({ store, root, clock, log, random, options = {} }: GuestAgentSetup) {
    this.#clock = clock;
    this.#log = log;
    const ignoredPids = new Set([process.pid, ...(options.ignoredPids ?? [])]);
    const { proc = '/proc', nativeCalls = true } = options;
    const lines = options.lines ?? new SystemLines({ root, clock, proc, ignoredPids, nativeCalls });
    const keeper = new Keeper(lines, log);
    const timeoutMs = options.answerTimeoutMs ?? 1_000;
    const signal = this.#stopping.signal;
    this.#assignments = new Assignments({
      store,
      root,
      log,
      keeper,
      resolver: new Resolver(keeper, { store, clock, log, random, timeoutMs, signal }),
      links: new LinkSet({ root, log, virtioPorts: options.virtioPorts ?? false }),
      record: new LineRecord(root),
      minimum: options.minimum ?? 'deduced',
    });
  }

  /** Resolves after the first pass: every channel that can be told now has its links. */
  static async start(setup: GuestAgentSetup): Promise<GuestAgent> {
    const agent = new GuestAgent(setup);
    await agent.#assignments.load();
    agent.#watch = await setup.store.watch(OWN_CONSOLES, () => agent.#wake());
    agent.#wake();
    await agent.settled();
    return agent;
  }

  channels(): ResolvedChannel[] {
    return [...this.#assignments.channels];
  }

  /** Calls `listener` after every pass that changed something; returns how to end that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when no pass is running or due. A retry that waits for its time does not count. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /**
   * Orderly end: no more links unless `keepLinks`, no more claims. A line's raw mode ends when its last user closes it:
   * an application that has it open notices nothing, and the next agent takes the line up from the record.
   */
  async stop({ keepLinks = false }: { readonly keepLinks?: boolean } = {}): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    this.#cancelRetry();
    await this.#watch?.stop().catch(() => {}); // the store may be gone already
    await this.settled();
    await this.#assignments.end(keepLinks);
    this.#log.log('info', 'agent stopped', { keepLinks });
  }

  #wake(): void {
    if (this.#stopping.signal.aborted) return;
    this.#again = true;
    this.#running ??= this.#passes().finally(() => {
      this.#running = undefined;
      if (this.#again) this.#wake();
    });
  }

  async #passes(): Promise<void> {
    while (this.#again && !this.#stopping.signal.aborted) {
      this.#again = false;
      const before = JSON.stringify(this.#assignments.channels);
      await this.#pass();
      if (JSON.stringify(this.#assignments.channels) !== before)
        for (const listener of [...this.#listeners]) listener();
    }
  }

  async #pass(): Promise<void> {
    const due = this.#due;
    this.#due = false;
    let outcome: Outcome = { changed: false, tried: true, incomplete: true };
    try {
      outcome = await this.#assignments.update(due);
    } catch (error) {
      this.#log.log('error', 'pass failed', { problem: error instanceof Error ? error.message : String(error) });
    }
    if (outcome.changed || !outcome.incomplete) this.#retryMs = FIRST_RETRY_MS;
    if (!outcome.incomplete) this.#cancelRetry();
    else if (outcome.tried) this.#retryLater();
  }

  /** Only a search that was made moves the time of the next one: our own writes wake us, too. */
  #retryLater(): void {
    this.#cancelRetry();
    if (this.#stopping.signal.aborted) return;
    this.#retry = this.#clock.after(this.#retryMs, () => {
      this.#due = true;
      this.#wake();
    });
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
  }

  #cancelRetry(): void {
    this.#retry?.cancel();
    this.#retry = undefined;
  }
}
