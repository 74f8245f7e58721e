/**
 * A whole Xen host in one process: simulated xenstored, hypervisor, toolstack and guests around the real daemon and the
 * real guest agent. Holds no product logic: what attaches, serves and links is the product itself.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rm, rmdir, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Likeness } from '../../xenstore/daemon/likeness.js';
import type { Store } from '../../xenstore/index.js';
import type { BackendDaemon } from '../backend/daemon.js';
import type { SpoolPlace } from '../backend/spool-files.js';
import { type Clock, systemClock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import { type Logger, silentLogger } from '../base/log.js';
import { domainPath } from '../console/layout.js';
import { checkSocketPath } from '../console/spec.js';
import { GuestAgent } from '../guest/agent.js';
import { SimulatedHypervisor } from '../hypervisor/simulated.js';
import { DaemonProcess } from './daemon-process.js';
import { HostStore } from './host-store.js';
import { LinuxGuest } from './linux-guest.js';
import { ptyTtys } from './pty-tty.js';
import type { DomainSpec, RestoreOptions, RunningDomain, SimulatedDomain } from './simulated-domain.js';
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
  /** Where the daemon keeps spools. Default: as the daemon does it. */
  readonly spool?: SpoolPlace;
  /** Default: one in memory. A shared one lets daemons of other processes serve this host's channels. */
  readonly hypervisor?: SimulatedHypervisor;
}

/** What runs in a domain, in the order in which it was started; ended in the opposite order. */
type Ends = (() => Promise<void>)[];

interface Parts {
  readonly hypervisor: SimulatedHypervisor;
  readonly xenstored: HostStore;
  readonly store: Store;
  readonly madeRoot: boolean;
}

type Settings = Required<Omit<SimulatedHostOptions, 'domains' | 'daemon' | 'like' | 'hypervisor'>>;

export class SimulatedHost {
  readonly root: string;
  /** The socket of xenstored, as dom0 sees it. */
  readonly storePath: string;
  /** The daemon's run directory. */
  readonly runDirectory: string;
  /** The records of channels that shall exist. */
  readonly stateDirectory: string;
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
    this.stateDirectory = join(settings.root, 'state');
  }

  /** Resolves when every domain has booted and its agent has looked around once. */
  static async start(options: SimulatedHostOptions): Promise<SimulatedHost> {
    const { root, clock = systemClock, log = silentLogger, random = randomBytes, agent = true } = options;
    // Each socket is bound beside its final place first, under a longer name.
    checkSocketPath(join(root, 'dom65535/dev/xen/xenbus.4194304-9999'));
    const { hypervisor = new SimulatedHypervisor(), spool = 'auto' } = options;
    const like = options.like === undefined ? {} : { like: options.like };
    const madeRoot = (await mkdir(root, { recursive: true })) !== undefined;
    const path = join(root, 'xenstored.sock');
    const xenstored = await HostStore.start({ path, hypervisor, clock, log, ...like }).catch(async (error) => {
      if (madeRoot) await removeIfEmpty(root);
      throw error;
    });
    const ttys = options.ttys ?? ptyTtys();
    const store = await xenstored.connect(xenstored.path);
    const settings = { root, clock, log, random, agent, ttys, spool };
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
    const domid = spec.domid ?? this.#nextDomid;
    this.hypervisor.createDomain(domid);
    this.#nextDomid = Math.max(this.#nextDomid, domid + 1);
    const named = { ...spec, name: spec.name ?? `guest${domid}`, uuid: spec.uuid ?? this.#uuid() };
    const root = this.#freeRoot(domid);
    const ends: (() => Promise<void>)[] = [];
    try {
      const { name, uuid, channels = [] } = named;
      await buildDomain(this.#store, { domid, name, uuid, channels, startedAt: this.#settings.clock.now() });
      const domain = await this.#boot(domid, root, named, ends);
      this.#domains.set(domid, domain);
      return domain;
    } catch (error) {
      await this.#erase(domid, root, ends);
      throw error;
    }
  }

  /** As `xl destroy`: no warning to the guest. */
  async destroyDomain(domid: number): Promise<void> {
    const { root, ends } = this.#running(domid);
    this.#domains.delete(domid);
    await this.#erase(domid, root, ends);
  }

  /** A new domain id for the same domain, as xl does it; what was plugged while it ran is gone. */
  async rebootDomain(domid: number): Promise<SimulatedDomain> {
    const { spec } = this.#running(domid);
    await this.destroyDomain(domid);
    const { domid: _, ...sameAgain } = spec;
    return this.createDomain(sameAgain);
  }

  /**
   * As `xl save` and `xl restore`, or as a migration to the same host: the guest goes on where it was, under a new domid
   * and with the toolstack's own devices only. Its directory stays; one of the new domid's name leads to it.
   */
  async restoreDomain(domid: number, options: RestoreOptions = {}): Promise<SimulatedDomain> {
    const { spec, root, kernel, kernelEnd, ends } = this.#running(domid);
    const { name, uuid } = spec;
    const { beforeResume, whileBuilt, migrate = false, channels = spec.channels ?? [] } = options;
    await kernel.suspend();
    // The kernel goes on, with all that it remembers; its connections and what runs in it do not.
    const powerOff = ends.indexOf(kernelEnd);
    const others = ends.splice(0).filter((_, index) => index !== powerOff);
    for (const end of others.reverse()) await end();
    const remove = async (): Promise<void> => {
      this.#domains.delete(domid);
      await this.#forget(domid);
    };
    if (!migrate) await remove();
    const newId = this.#nextDomid++;
    this.hypervisor.createDomain(newId);
    const startedAt = this.#settings.clock.now();
    const named = migrate ? `${name}--incoming` : name;
    await buildDomain(this.#store, { domid: newId, name: named, uuid, channels, startedAt, whileBuilt });
    await beforeResume?.(newId);
    if (migrate) {
      await this.#store.write(`${domainPath(domid)}/name`, `${name}--migratedaway`);
      await this.#store.write(`${domainPath(newId)}/name`, name);
    }
    const link = join(this.root, `dom${newId}`);
    await symlink(root, link);
    const { domid: _, ...sameAgain } = { ...spec, channels };
    const domain = await this.#boot(newId, root, { ...sameAgain, name, uuid }, [() => unlink(link)], kernel);
    this.#domains.set(newId, domain);
    if (migrate) await remove();
    return domain;
  }

  async startDaemon(): Promise<void> {
    if (this.#daemon !== undefined) throw new ChannelError('internal-bug', 'the daemon of this host is running');
    const { hypervisor, runDirectory, stateDirectory } = this;
    await mkdir(runDirectory, { recursive: true });
    const own = { connect: () => this.#xenstored.connect(this.storePath), hypervisor, runDirectory, stateDirectory };
    this.#daemon = await DaemonProcess.start({ ...this.#settings, ...own });
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

  /** Ends everything and removes what was made below the root; throws the first of what went wrong, at the end. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    const steps: (() => unknown)[] = [
      () => this.stopDaemon(),
      ...[...this.#domains.keys()].map((domid) => () => this.destroyDomain(domid)),
      () => this.#store.close(),
      () => this.#xenstored.stop(),
      () => this.#settings.ttys.close(),
      () => rm(this.runDirectory, { recursive: true, force: true }),
      () => rm(this.stateDirectory, { recursive: true, force: true }),
      () => this.#madeRoot && removeIfEmpty(this.root),
    ];
    const failures: unknown[] = [];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /** `resumed`: a kernel that ran under another domid. */
  async #boot(
    domid: number,
    root: string,
    spec: RunningDomain['spec'],
    ends: Ends,
    resumed?: LinuxGuest,
  ): Promise<RunningDomain> {
    const { log } = this.#settings;
    const storePath = join(root, 'dev/xen/xenbus');
    await mkdir(join(root, 'dev/xen'), { recursive: true });
    ends.push(await this.#xenstored.openDomain(domid, storePath));
    const ring = await this.#xenstored.connectKernel(domid);
    ends.push(ring.end);
    await resumed?.resume({ domid, store: ring.store, log: log.with({ domid, in: 'kernel' }) });
    const kernel = resumed ?? (await this.#bootKernel(domid, root, spec, ring.store));
    const kernelEnd = (): Promise<void> => kernel.powerOff();
    ends.push(kernelEnd);
    const connect = async (): Promise<Store> => {
      const store = await this.#xenstored.connect(storePath);
      ends.push(() => store.close());
      return store;
    };
    const agent =
      (spec.agent ?? this.#settings.agent)
        ? await this.#startAgent(root, log.with({ domid, in: 'agent' }), await connect(), ends)
        : undefined;
    const { name, uuid } = spec;
    return { domid, name, uuid, root, storePath, kernel, agent, spec, ends, kernelEnd };
  }

  #bootKernel(domid: number, root: string, spec: DomainSpec, store: Store): Promise<LinuxGuest> {
    const { clock, log, ttys } = this.#settings;
    const { hypervisor } = this;
    const choices = {
      ...(spec.primary === undefined ? {} : { primary: spec.primary }),
      ...(spec.kernelVersion === undefined ? {} : { kernelVersion: spec.kernelVersion }),
    };
    const kernelLog = log.with({ domid, in: 'kernel' });
    return LinuxGuest.boot({ domid, store, hypervisor, root, ttys, clock, log: kernelLog, ...choices });
  }

  async #startAgent(root: string, log: Logger, store: Store, ends: Ends): Promise<GuestAgent> {
    const { clock, random } = this.#settings;
    const agent = await GuestAgent.start({ store, root, clock, log, random });
    ends.push(async () => {
      // The agent dies with its domain: without a connection it cannot take leave.
      await store.close();
      await agent.stop({ keepLinks: true });
    });
    return agent;
  }

  /** libxl removes the nodes while the domain is paused, and the hypervisor has it until the end. */
  async #erase(domid: number, root: string, ends: Ends): Promise<void> {
    for (const end of ends.splice(0).reverse()) await end();
    await this.#forget(domid);
    await rm(root, { recursive: true, force: true });
  }

  /** A restored domain keeps the directory of its former id. */
  #freeRoot(domid: number): string {
    const taken = new Set(this.domains.map(({ root }) => root));
    for (let again = 1; ; again++) {
      const root = join(this.root, again === 1 ? `dom${domid}` : `dom${domid}-${again}`);
      if (!taken.has(root)) return root;
    }
  }

  async #forget(domid: number): Promise<void> {
    await removeDomain(this.#store, domid);
    this.hypervisor.destroyDomain(domid);
    this.#xenstored.domainGone(domid);
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

/** Somebody else may have put something there. */
const removeIfEmpty = (directory: string): Promise<void> => rmdir(directory).catch(() => {});
