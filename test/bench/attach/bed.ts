/**
 * What is measured: a simulated host with the real daemon and, in each domain, the real agent, on xenstore connections
 * of their own that can be watched on the way. Notes when a channel was written and when its link stood.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { BackendDaemon } from '../../../src/backend/daemon.js';
import { systemClock } from '../../../src/base/clock.js';
import { type Logger, silentLogger } from '../../../src/base/log.js';
import { parseChannelName } from '../../../src/console/name.js';
import { DEFAULT_LIMIT_BYTES } from '../../../src/console/spec.js';
import { attach } from '../../../src/dom0/attach.js';
import { detach } from '../../../src/dom0/detach.js';
import { GuestAgent } from '../../../src/guest/agent.js';
import { SimulatedHost } from '../../../src/simulation/host.js';
import { type Store, type StoreOperations, XenstoreClient } from '../../../xenstore/index.js';
import { Wire } from './wire.js';

/** Milliseconds from the call of `attach`. */
export interface AttachTimes {
  readonly written: number;
  /** Both ends in state 4. */
  readonly connected: number;
  readonly linked: number;
  /** How often the transaction was begun. */
  readonly tries: number;
}

export interface BedOptions {
  readonly domains: number;
  /** Counts and delays; without it clients reach the daemon directly, and nothing disturbs the clock. */
  readonly delayMs?: number;
}

const NAME = parseChannelName('org.example.bench');
const WAIT_MS = 120_000;

export class Bed {
  readonly #root = mkdtempSync(join(tmpdir(), 'xcb-'));
  readonly #wires = new Map<'attach' | 'daemon' | 'agents', Wire>();
  readonly #ends: (() => Promise<unknown>)[] = [];
  readonly #onLinked = new Map<number, () => void>();
  readonly #options: BedOptions;
  #host!: SimulatedHost;

  private constructor(options: BedOptions) {
    this.#options = options;
  }

  static async start(options: BedOptions): Promise<Bed> {
    const bed = new Bed(options);
    bed.#host = await SimulatedHost.start({
      root: join(bed.#root, 'h'),
      domains: options.domains,
      daemon: false,
      agent: false,
    });
    const { hypervisor, storePath, runDirectory } = bed.#host;
    const store = await bed.#connect('daemon', storePath);
    const daemon = await BackendDaemon.start({
      store,
      hypervisor: hypervisor.openBackend(0),
      clock: systemClock,
      log: silentLogger,
      runDirectory,
    });
    bed.#ends.push(() => daemon.stop());
    for (const domain of bed.#host.domains) await bed.#startAgent(domain.domid, domain.root, domain.storePath);
    return bed;
  }

  get domids(): number[] {
    return this.#host.domains.map(({ domid }) => domid);
  }

  /** Requests so far, and lost transactions. */
  counts(): Record<'attach' | 'daemon' | 'agents', number> & { conflicts: number } {
    const of = (who: 'attach' | 'daemon' | 'agents'): number => this.#wires.get(who)?.requests ?? 0;
    const conflicts = [...this.#wires.values()].reduce((sum, wire) => sum + wire.conflicts, 0);
    return { attach: of('attach'), daemon: of('daemon'), agents: of('agents'), conflicts };
  }

  /** As the command: a connection of its own, opened before the clock runs. */
  async attach(domid: number): Promise<AttachTimes> {
    const store = await this.#connect('attach', this.#host.storePath);
    const startMs = performance.now();
    let linked = Number.NaN;
    const link = new Promise<void>((done) => {
      this.#onLinked.set(domid, () => {
        linked = performance.now() - startMs;
        done();
      });
    });
    const noted = { written: 0, tries: 0 };
    const spec = { name: NAME, connection: 'socket', backend: 'native', limitBytes: DEFAULT_LIMIT_BYTES } as const;
    const request = { domain: String(domid), spec, waitMs: WAIT_MS };
    await attach(noting(store, noted), request, this.#environment);
    const connected = performance.now() - startMs;
    await link;
    await store.close();
    return { written: noted.written - startMs, connected, linked, tries: noted.tries };
  }

  async detach(domid: number): Promise<number> {
    const store = await this.#connect('attach', this.#host.storePath);
    const startMs = performance.now();
    await detach(store, { domain: String(domid), name: NAME, timeoutMs: WAIT_MS }, this.#environment);
    const tookMs = performance.now() - startMs;
    await store.close();
    return tookMs;
  }

  async stop(): Promise<void> {
    for (const end of this.#ends.reverse()) await end();
    for (const wire of this.#wires.values()) wire.close();
    await this.#host.stop();
    rmSync(this.#root, { recursive: true, force: true });
  }

  get #environment() {
    return { runDirectory: this.#host.runDirectory, backendDomid: 0, clock: systemClock };
  }

  async #startAgent(domid: number, root: string, storePath: string): Promise<void> {
    const store = await this.#connect('agents', storePath);
    const log: Logger = {
      log: (_level, msg, fields) => {
        if (msg === 'link made' && String(fields?.['link']).includes('/xenchannel/')) this.#onLinked.get(domid)?.();
      },
      with: () => log,
    };
    const agent = await GuestAgent.start({ store, root, clock: systemClock, log, random: randomBytes });
    this.#ends.push(() => agent.stop());
  }

  async #connect(who: 'attach' | 'daemon' | 'agents', target: string): Promise<XenstoreClient> {
    const { delayMs } = this.#options;
    let path = target;
    if (delayMs !== undefined) {
      // Agents reach a daemon of their own domain each; only one domain is looked at this way.
      path = join(this.#root, who);
      if (!this.#wires.has(who)) this.#wires.set(who, await Wire.open(path, target, delayMs));
    }
    const store = await XenstoreClient.connect({ path, clock: systemClock, reconnect: false });
    this.#ends.push(() => store.close());
    return store;
  }
}

/** The same store, and when its last transaction was committed, in how many tries. */
function noting(store: XenstoreClient, noted: { written: number; tries: number }): Store {
  return new Proxy(store, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (key !== 'transaction') return typeof value === 'function' ? value.bind(target) : value;
      return async <T>(fn: (tx: StoreOperations) => Promise<T>): Promise<T> => {
        const result = await target.transaction((tx) => {
          noted.tries++;
          return fn(tx);
        });
        noted.written = performance.now();
        return result;
      };
    },
  });
}
