/**
 * The daemon: finds the channels of this backend domain, gives each its controller, and ends in order. Knows the paths
 * of xenstore, but nothing of rings and states.
 */
import { mkdirSync } from 'node:fs';
import type { Watch } from '../../xenstore/index.js';
import type { Logger } from '../base/log.js';
import type { Chardev } from '../chardev/chardev.js';
import { backendsPath, type ChannelAddress, frontendPath } from '../console/layout.js';
import { BatchBuffers } from './batch.js';
import { ChannelNodes } from './channel-nodes.js';
import { ControlServer } from './control.js';
import { ChannelController } from './controller.js';
import type { DaemonOptions } from './daemon-options.js';
import { DirtySet } from './dirty-set.js';
import { type Finding, inspectBackend, isDomainAlive, isSameChannel, readDomainUuid } from './discovery.js';
import { DAEMON, EventLog } from './events.js';
import { HandoverFiles } from './handover.js';
import { discardLeftovers } from './leftovers.js';
import { defaultChardev } from './make-chardev.js';
import { Refusals } from './refusals.js';
import { Restorer } from './restorer.js';
import { SpoolFiles } from './spool-files.js';
import type { DaemonStatus } from './status.js';
import { Timers, TurnQueue } from './turns.js';

export type { DaemonOptions } from './daemon-options.js';

/** More channels than any host has; a toolstack that writes more is broken. */
const MAX_CHANNELS = 8192;
/** Channels that are looked at side by side. */
const PARALLEL_INSPECTIONS = 32;
const RUN_DIRECTORY_MODE = 0o755;
const STORE_RETRY_MS = 1000;
/** How often channels give back what a burst has left behind. */
const TIDY_MS = 10_000;

export class BackendDaemon {
  readonly #options: DaemonOptions;
  readonly #log: Logger;
  readonly #backendDomid: number;
  readonly #turns = new TurnQueue();
  readonly #timers: Timers;
  readonly #batches = new BatchBuffers();
  readonly #handovers: HandoverFiles;
  readonly #spools: SpoolFiles;
  readonly #control: ControlServer;
  readonly #events: EventLog;
  readonly #startedAt: string;
  readonly #channels = new Map<string, Served>();
  readonly #refused: Refusals;
  readonly #watches: Watch[] = [];
  readonly #lingering = new Map<Promise<void>, Chardev>();
  readonly #dirty: DirtySet;
  readonly #restorer: Restorer | undefined;
  #state: 'running' | 'stopping' | 'over' = 'running';

  /**
   * Resolves when every channel that was there is served. Throws ChannelError `path-in-use` when another daemon runs on
   * this run directory, XenstoreError when the store does not answer.
   */
  static async start(options: DaemonOptions): Promise<BackendDaemon> {
    const daemon = new BackendDaemon(options);
    try {
      await daemon.#start();
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  private constructor(options: DaemonOptions) {
    const { clock, log, runDirectory, backendDomid = 0 } = options;
    this.#options = options;
    this.#log = log;
    this.#backendDomid = backendDomid;
    this.#timers = new Timers(clock);
    this.#handovers = new HandoverFiles(runDirectory);
    this.#spools = new SpoolFiles(runDirectory, options.spool ?? 'auto', log);
    this.#startedAt = new Date(clock.now()).toISOString();
    this.#events = new EventLog(clock);
    this.#refused = new Refusals(log, this.#events);
    const { stateDirectory } = options;
    this.#restorer =
      stateDirectory === undefined ? undefined : new Restorer({ ...options, stateDirectory, events: this.#events });
    this.#control = new ControlServer({
      path: `${runDirectory}/control.sock`,
      ...(options.controlSocket === undefined ? {} : { fd: options.controlSocket }),
      events: this.#events,
      status: () => this.status(),
      channel: (domid, deviceId) => this.#channels.get(`${domid}/${deviceId}`)?.controller,
    });
    this.#dirty = new DirtySet({
      parallel: PARALLEL_INSPECTIONS,
      handle: (key) => this.#inspect(key),
      onFailure: (key, error) => {
        this.#storeTrouble(key, error);
        this.#timers.after(STORE_RETRY_MS, () => this.#dirty.add(key));
      },
    });
  }

  status(): DaemonStatus {
    return {
      pid: process.pid,
      startedAt: this.#startedAt,
      backendDomid: this.#backendDomid,
      runDirectory: this.#options.runDirectory,
      channels: [...this.#channels.values()].map(({ controller }) => controller.status()),
      refused: this.#refused.list(),
      wanted: this.#restorer?.status() ?? [],
    };
  }

  /** Lets the host speak first on this channel, until it is detached. False: no such channel. */
  allowSpeakingFirst(domid: number, deviceId: number): boolean {
    const served = this.#channels.get(`${domid}/${deviceId}`);
    served?.controller.allowSpeakingFirst();
    return served !== undefined;
  }

  /** Orderly: guests notice nothing, no byte is lost or repeated; the next daemon goes on. */
  async stop(): Promise<void> {
    if (this.#state !== 'running') return;
    this.#state = 'stopping';
    this.#events.publish('stopping', DAEMON);
    this.#dirty.stop();
    this.#timers.stop();
    await this.#restorer?.stop();
    await Promise.all(this.#watches.map((watch) => watch.stop().catch(() => {})));
    await this.#dirty.settled();
    await Promise.all([...this.#channels.values()].map((served) => this.#stopChannel(served)));
    this.#turns.stop();
    for (const chardev of this.#lingering.values()) chardev.abandon();
    await Promise.all(this.#lingering.keys());
    await this.#control.stop();
    this.#state = 'over';
    this.#log.log('info', 'daemon stopped', { channels: this.#channels.size });
    this.#channels.clear();
  }

  /** What a SIGKILL does: descriptors are closed, nothing is flushed, written or removed. */
  abandon(): void {
    this.#state = 'over';
    this.#dirty.stop();
    this.#timers.stop();
    this.#restorer?.abandon();
    this.#turns.stop();
    for (const { controller } of this.#channels.values()) controller.abandon();
    for (const chardev of this.#lingering.values()) chardev.abandon();
    this.#control.abandon();
    this.#channels.clear();
  }

  async #start(): Promise<void> {
    mkdirSync(this.#options.runDirectory, { recursive: true, mode: RUN_DIRECTORY_MODE });
    // The control socket first: it is what keeps two daemons from serving one run directory.
    await this.#control.start();
    const root = backendsPath(this.#backendDomid);
    await this.#watch(root, (path) => this.#backendChanged(path.slice(root.length + 1)));
    await this.#watch('@introduceDomain', () => this.#domainsChanged(true));
    await this.#watch('@releaseDomain', () => this.#domainsChanged(false));
    // libxl makes a domain here long before it introduces one that is restored.
    if (this.#restorer !== undefined) await this.#watch('/vm', () => this.#restorer?.domainsChanged());
    await this.#scan();
    await this.#dirty.settled();
    const known = (domid: number, deviceId: number): boolean => this.#channels.has(`${domid}/${deviceId}`);
    discardLeftovers({ handovers: this.#handovers, spools: this.#spools }, known, this.#log);
    this.#tidy();
    this.#log.log('info', 'daemon started', { channels: this.#channels.size, refused: this.#refused.size });
    this.#events.publish('started', DAEMON, { channels: this.#channels.size });
    this.#restorer?.domainsChanged();
  }

  #tidy(): void {
    for (const { controller } of this.#channels.values()) controller.tidy();
    this.#timers.after(TIDY_MS, () => this.#tidy());
  }

  async #watch(path: string, listener: (path: string) => void): Promise<void> {
    const watch = await this.#options.store.watch(path, (changed) => {
      if (this.#state === 'running') listener(changed);
    });
    this.#watches.push(watch);
  }

  // --- which channels there are --------------------------------------------------------------------------------------

  /** `below` is `D/N/key`, or less when more has changed. */
  #backendChanged(below: string): void {
    const [domid, deviceId, key] = below.split('/');
    if (deviceId === '0') this.#restorer?.domainSettled(Number(domid));
    if (deviceId === undefined) {
      this.#dirty.add(domid ?? '');
      return;
    }
    const served = this.#channels.get(`${domid}/${deviceId}`);
    // The states of the handshake concern only the channel itself; everything else may make it another one.
    if (served !== undefined && (key === 'state' || key === 'online')) served.controller.touch();
    else this.#dirty.add(`${domid}/${deviceId}`);
  }

  /** `''`: everything; `D`: a domain; `D/N`: one backend. */
  async #inspect(key: string): Promise<void> {
    if (key === '') return this.#scan();
    const match = /^([1-9][0-9]{0,4})(?:\/([0-9]{1,10}))?$/.exec(key);
    if (match === null) return;
    const domid = Number(match[1]);
    if (match[2] === undefined) return this.#scanDomain(domid);
    await this.#inspectBackend({ domid, deviceId: Number(match[2]), backendDomid: this.#backendDomid });
  }

  async #scan(): Promise<void> {
    const domids = await this.#options.store.tryDirectory(backendsPath(this.#backendDomid));
    for (const domid of domids) this.#dirty.add(domid);
    for (const { controller } of this.#channels.values()) controller.touch();
  }

  async #scanDomain(domid: number): Promise<void> {
    const deviceIds = await this.#options.store.tryDirectory(`${backendsPath(this.#backendDomid)}/${domid}`);
    for (const deviceId of deviceIds) this.#dirty.add(`${domid}/${deviceId}`);
    for (const { controller } of this.#channels.values()) if (controller.config.domid === domid) controller.touch();
  }

  async #inspectBackend(address: ChannelAddress): Promise<void> {
    const finding = await inspectBackend(this.#options.store, address, this.#options.runDirectory);
    if (this.#state !== 'running') return;
    const key = `${address.domid}/${address.deviceId}`;
    this.#refused.note(key, address, finding);
    const served = this.#channels.get(key);
    if (served === undefined) {
      if (finding.kind === 'ours') await this.#serve(key, finding);
    } else if (finding.kind === 'absent') served.controller.end('the toolstack removed the backend');
    else if (finding.kind !== 'ours') served.controller.touch();
    else if (isSameChannel(finding.config, served.controller.config)) {
      if (finding.config.speakFirst) served.controller.allowSpeakingFirst();
      served.controller.touch();
      await this.#watchFrontend(key, served);
    } else {
      served.controller.end('another channel took its place');
      await this.#serve(key, finding);
    }
  }

  async #serve(key: string, { config, backendState }: Finding & { kind: 'ours' }): Promise<void> {
    const { domid, deviceId, name } = config;
    const log = this.#log.with({ domid, deviceId, name });
    if (this.#channels.size >= MAX_CHANNELS) {
      log.log('error', `channel not served: there are ${MAX_CHANNELS} already`);
      return;
    }
    const { store, hypervisor, clock, runDirectory, createChardev = defaultChardev } = this.#options;
    const chardev = createChardev(config, { clock, log, runDirectory });
    const nodes = new ChannelNodes(store, config);
    const controller: ChannelController = new ChannelController({
      config,
      backendState,
      nodes,
      hypervisor,
      clock,
      log,
      turns: this.#turns,
      batches: this.#batches,
      chardev,
      spool: this.#spools.open(config, log),
      handover: this.#handovers.take(config),
      events: this.#events,
      onEnded: (lingering) => this.#ended(key, controller, chardev, lingering),
    });
    const served: Served = { controller, watch: undefined };
    this.#channels.set(key, served);
    log.log('info', 'channel found', { path: config.path, backendState });
    await controller.start();
    // Watched from now on, and looked at once more: what came in between is not lost.
    await this.#watchFrontend(key, served);
  }

  async #watchFrontend(key: string, served: Served): Promise<void> {
    if (served.watch !== undefined) return;
    const { domid, deviceId } = served.controller.config;
    served.watch = await this.#options.store.watch(frontendPath(domid, deviceId), () => served.controller.touch());
    if (this.#channels.get(key) !== served) await served.watch.stop();
  }

  #ended(key: string, controller: ChannelController, chardev: Chardev, lingering: Promise<void>): void {
    const served = this.#channels.get(key);
    if (served?.controller === controller) this.#channels.delete(key);
    void served?.watch?.stop().catch(() => {});
    this.#lingering.set(lingering, chardev);
    void lingering.finally(() => this.#lingering.delete(lingering));
    // Its place may have been taken while it was served.
    this.#dirty.add(key);
  }

  async #stopChannel({ controller, watch }: Served): Promise<void> {
    await watch?.stop().catch(() => {});
    const record = await controller.stop();
    if (record === undefined) return;
    try {
      this.#handovers.save(record);
    } catch (error) {
      const { domid, deviceId } = record;
      this.#log.log('error', 'handover not written: bytes are lost', { domid, deviceId, error: String(error) });
    }
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  #domainsChanged(introduced: boolean): void {
    this.#checkDomains();
    if (introduced) this.#restorer?.domainIntroduced();
    else this.#restorer?.domainsChanged();
  }

  /** xenstore does not say who came or went, so all are looked at. A ring of a dead domain must be unmapped at once. */
  #checkDomains(): void {
    for (const domid of new Set([...this.#channels.values()].map(({ controller }) => controller.config.domid))) {
      void this.#checkDomain(domid).catch((error: unknown) => this.#storeTrouble(`domain ${domid}`, error));
    }
  }

  async #checkDomain(domid: number): Promise<void> {
    const { store } = this.#options;
    const [alive, uuid] = await Promise.all([isDomainAlive(store, domid), readDomainUuid(store, domid)]);
    for (const { controller } of [...this.#channels.values()]) {
      if (controller.config.domid !== domid) continue;
      // One that is being restored is not introduced yet; without a ring there is nothing to let go of in a hurry.
      if ((alive || !controller.holdsRing) && controller.config.uuid === uuid) continue;
      controller.end(alive ? 'the domain id belongs to another domain now' : 'the domain is gone');
    }
  }

  #storeTrouble(what: string, error: unknown): void {
    this.#log.log('error', 'xenstore did not answer', { what, error: String(error) });
  }
}

type Served = { readonly controller: ChannelController; watch: Watch | undefined };
