/**
 * A whole Xen host in one process: simulated xenstored, hypervisor, toolstack and guests around the real daemon and the
 * real guest agent. Holds no product logic: what attaches, serves and links is the product itself.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Likeness } from '../../xenstore/daemon/likeness.js';
import type { Store } from '../../xenstore/index.js';
import { type Clock, systemClock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import { type Logger, silentLogger } from '../base/log.js';
import { checkSocketPath } from '../console/spec.js';
import { GuestAgent } from '../guest/agent.js';
import { SimulatedHypervisor } from '../hypervisor/simulated.js';
import { type BackendDaemon, DaemonProcess } from './daemon-process.js';
import { HostStore } from './host-store.js';
import { LinuxGuest } from './linux-guest.js';
import { ptyTtys } from './pty-tty.js';
import type { DomainSpec, RunningDomain, SimulatedDomain } from './simulated-domain.js';
import { buildDomain, prepareHost, removeDomain } from './toolstack.js';
import type { TtyMaker } from './tty-port.js';

export interface SimulatedHostOptions {
  /** Everything appears below this directory; made if absent, and left as it was by `stop`. */
  readonly root: string;
  /** How many domains to create, or which. Default none. */
  readonly domains?: number | readonly DomainSpec[];
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly random?: (bytes: number) => Uint8Array;
  /** Whether our agent runs in each domain. Default true. */
  readonly agent?: boolean;
  /** Whether our daemon runs in dom0. Default true. */
  readonly daemon?: boolean;
  /** Which genuine xenstored to answer like. Default: the C daemon. */
  readonly like?: Likeness;
  /** What the guests' tty lines are made of. Default: real PTYs. */
  readonly ttys?: TtyMaker;
}

interface Parts {
  readonly hypervisor: SimulatedHypervisor;
  readonly xenstored: HostStore;
  readonly store: Store;
  readonly madeRoot: boolean;
}

type Settings = Required<Omit<SimulatedHostOptions, 'domains' | 'daemon' | 'like'>>;

export class SimulatedHost {
  readonly root: string;
  /** The socket of xenstored, as dom0 sees it. */
  readonly storePath: string;
  /** The daemon's run directory. */
  readonly runDirectory: string;
  readonly hypervisor: SimulatedHypervisor;
  readonly #settings: Settings;
  readonly #xenstored: HostStore;
  readonly #store: Store;
  readonly #domains = new Map<number, RunningDomain>();
  readonly #madeRoot: boolean;
  #nextDomid = 1;
  #daemon: DaemonProcess | undefined;
  #stopped = false;

  private constructor(settings: Settings, parts: Parts) {
    this.#settings = settings;
    this.root = settings.root;
    this.#xenstored = parts.xenstored;
    this.#store = parts.store;
    this.#madeRoot = parts.madeRoot;
    this.hypervisor = parts.hypervisor;
    this.storePath = parts.xenstored.path;
    this.runDirectory = join(settings.root, 'run');
  }

  /** Resolves when every domain has booted and its agent has looked around once. */
  static async start(options: SimulatedHostOptions): Promise<SimulatedHost> {
    const { root, clock = systemClock, log = silentLogger, random = randomBytes, agent = true } = options;
    // Each socket is bound beside its final place first, under a longer name.
    checkSocketPath(join(root, 'dom65535/dev/xen/xenbus.4194304-9999'));
    const madeRoot = (await mkdir(root, { recursive: true })) !== undefined;
    const ttys = options.ttys ?? ptyTtys();
    const hypervisor = new SimulatedHypervisor();
    const like = options.like === undefined ? {} : { like: options.like };
    const xenstored = await HostStore.start({ path: join(root, 'xenstored.sock'), hypervisor, clock, log, ...like });
    const store = await xenstored.connect(xenstored.path);
    const settings = { root, clock, log, random, agent, ttys };
    const host = new SimulatedHost(settings, { hypervisor, xenstored, store, madeRoot });
    try {
      await prepareHost(store);
      if (options.daemon ?? true) await host.startDaemon();
      const { domains = 0 } = options;
      const specs = typeof domains === 'number' ? new Array<DomainSpec>(domains).fill({}) : domains;
      for (const spec of specs) await host.createDomain(spec);
    } catch (error) {
      await host.stop();
      throw error;
    }
    return host;
  }

  /** dom0's view of xenstore, for whoever plays a toolstack. */
  get store(): Store {
    return this.#store;
  }

  get daemon(): BackendDaemon | undefined {
    return this.#daemon?.daemon;
  }

  get domains(): readonly SimulatedDomain[] {
    return [...this.#domains.values()];
  }

  /** Throws ChannelError `domain-not-found`. */
  domain(domid: number): SimulatedDomain {
    return this.#running(domid);
  }

  /** As `xl create`: builds, introduces and boots a domain, and starts the agent in it. */
  async createDomain(spec: DomainSpec = {}): Promise<SimulatedDomain> {
    const domid = this.#nextDomid++;
    const named = { ...spec, name: spec.name ?? `guest${domid}`, uuid: spec.uuid ?? this.#uuid() };
    const root = join(this.root, `dom${domid}`);
    this.hypervisor.createDomain(domid);
    try {
      const { name, uuid, channels = [] } = named;
      await buildDomain(this.#store, { domid, name, uuid, channels, startedAt: this.#settings.clock.now() });
      const domain = await this.#boot(domid, root, named);
      this.#domains.set(domid, domain);
      return domain;
    } catch (error) {
      await this.#erase(domid, root);
      throw error;
    }
  }

  /** As `xl destroy`: no warning to the guest. */
  async destroyDomain(domid: number): Promise<void> {
    const domain = this.#running(domid);
    this.#domains.delete(domid);
    // The agent dies with its domain: without a connection it cannot take leave.
    await domain.agentStore?.close();
    await domain.agent?.stop({ keepLinks: true });
    await domain.kernel.powerOff();
    await domain.kernelStore.close();
    await this.#erase(domid, domain.root);
    await domain.closeStoreSocket();
  }

  /** A new domain id for the same domain, as xl does it; what was plugged while it ran is gone. */
  async rebootDomain(domid: number): Promise<SimulatedDomain> {
    const { spec } = this.#running(domid);
    await this.destroyDomain(domid);
    return this.createDomain(spec);
  }

  async startDaemon(): Promise<void> {
    if (this.#daemon !== undefined) throw new ChannelError('internal-bug', 'the daemon of this host is running');
    const { clock, log } = this.#settings;
    const { hypervisor, runDirectory } = this;
    await mkdir(runDirectory, { recursive: true });
    const connect = () => this.#xenstored.connect(this.storePath);
    this.#daemon = await DaemonProcess.start({ connect, hypervisor, clock, log, runDirectory });
  }

  /** SIGTERM. */
  async stopDaemon(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    await daemon?.stop();
  }

  /** SIGKILL. */
  async crashDaemon(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    await daemon?.crash();
  }

  /** Ends everything and removes what was made below the root. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    await this.stopDaemon();
    for (const domid of [...this.#domains.keys()]) await this.destroyDomain(domid);
    await this.#store.close();
    await this.#xenstored.stop();
    this.#settings.ttys.close();
    await rm(this.runDirectory, { recursive: true, force: true });
    // Only if nobody else has put something there.
    if (this.#madeRoot) await rmdir(this.root).catch(() => {});
  }

  async #boot(domid: number, root: string, spec: RunningDomain['spec']): Promise<RunningDomain> {
    const { clock, log, random, ttys } = this.#settings;
    const storePath = join(root, 'dev/xen/xenbus');
    await mkdir(join(root, 'dev/xen'), { recursive: true });
    const closeStoreSocket = await this.#xenstored.openDomain(domid, storePath);
    const kernelStore = await this.#xenstored.connect(storePath);
    const kernel = await LinuxGuest.boot({
      domid,
      store: kernelStore,
      hypervisor: this.hypervisor,
      root,
      ttys,
      clock,
      log: log.with({ domid, in: 'kernel' }),
      ...(spec.primary === undefined ? {} : { primary: spec.primary }),
      ...(spec.kernelVersion === undefined ? {} : { kernelVersion: spec.kernelVersion }),
    });
    const agentStore = (spec.agent ?? this.#settings.agent) ? await this.#xenstored.connect(storePath) : undefined;
    const agentLog = log.with({ domid, in: 'agent' });
    const agent = agentStore && (await GuestAgent.start({ store: agentStore, root, clock, log: agentLog, random }));
    const { name, uuid } = spec;
    return { domid, name, uuid, root, storePath, kernel, agent, spec, kernelStore, agentStore, closeStoreSocket };
  }

  /** libxl removes the nodes first, and the hypervisor has the domain until the end. */
  async #erase(domid: number, root: string): Promise<void> {
    await removeDomain(this.#store, domid);
    this.hypervisor.destroyDomain(domid);
    this.#xenstored.domainGone(domid);
    await rm(root, { recursive: true, force: true });
  }

  #running(domid: number): RunningDomain {
    const domain = this.#domains.get(domid);
    if (domain === undefined) throw new ChannelError('domain-not-found', `there is no domain ${domid}`, { domid });
    return domain;
  }

  #uuid(): string {
    const bytes = Buffer.from(this.#settings.random(16));
    bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
    bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
    return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }
}
