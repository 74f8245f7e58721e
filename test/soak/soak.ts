/**
 * A simulated host under load: many channels of several domains, whose daemon is restarted and killed, whose channels
 * are plugged in and taken away, whose domains die and come back under the same id. At the end every byte must be
 * accounted for.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.js';
import type { LogFields, Logger, LogLevel } from '../../src/base/log.js';
import { frontendPath, KEY } from '../../src/console/layout.js';
import { parseChannelName } from '../../src/console/name.js';
import { attach } from '../../src/dom0/attach.js';
import { detach } from '../../src/dom0/detach.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { SimulatedHost } from '../../src/simulation/host.js';
import { memoryTtys } from '../../src/simulation/memory-tty.js';
import { XenstoreClient } from '../../xenstore/index.js';
import { type Account, type Final, SoakChannel } from './channel.js';
import { type GuestEnd, MemoryGuestEnd, PtyGuestEnd } from './guest-end.js';
import { formatLedger, judge } from './ledger.js';
import { Random } from './random.js';

export interface SoakOptions {
  readonly root: string;
  readonly seed: number;
  readonly seconds: number;
  readonly channels: number;
  readonly crashes: number;
  /** Real PTYs with the real agent, instead of lines in memory. */
  readonly ptys: boolean;
  readonly print: (line: string) => void;
}

export interface SoakResult {
  /** What does not balance; empty: everything does. */
  readonly complaints: readonly string[];
  readonly accounts: readonly Account[];
  readonly counts: Readonly<Record<string, number>>;
}

const CHANNELS_PER_DOMAIN = 4;
const SETTLE_MS = 30_000;
const LAST_BYTES = 256;

export async function soak(options: SoakOptions): Promise<SoakResult> {
  const run = new Soak(options);
  return run.run();
}

interface Agents {
  readonly start: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

class Soak {
  readonly #options: SoakOptions;
  readonly #random: Random;
  readonly #lines = memoryTtys();
  readonly #channels = new Set<SoakChannel>();
  readonly #agents = new Map<number, Agents>();
  readonly #finals = new Map<string, Final>();
  readonly #complaints: string[] = [];
  readonly #accounts: Account[] = [];
  readonly #counts = {
    restarts: 0,
    crashes: 0,
    plugs: 0,
    unplugs: 0,
    domainDeaths: 0,
    agentRestarts: 0,
    gaps: 0,
    logLines: 0,
  };
  #host!: SimulatedHost;
  #generation = 1;
  #nextName = 1;
  #endedBytes = 0;
  #administering = true;

  constructor(options: SoakOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
  }

  async run(): Promise<SoakResult> {
    const { root, ptys, channels, print } = this.#options;
    this.#host = await SimulatedHost.start({
      root,
      log: this.#logger({}),
      agent: false,
      ...(ptys ? {} : { ttys: this.#lines }),
    });
    try {
      for (let domid = 1; domid <= Math.ceil(channels / CHANNELS_PER_DOMAIN); domid++) await this.#createDomain(domid);
      for (let n = 0; n < channels; n++) await this.#plug(1 + Math.floor(n / CHANNELS_PER_DOMAIN));
      const traffic = this.#traffic();
      try {
        await this.#administer();
        await this.#settle();
      } finally {
        this.#administering = false;
        await traffic;
      }
      for (const channel of this.#channels) this.#close(channel, { alive: true, readToTheEnd: true });
    } finally {
      for (const agent of this.#agents.values()) await agent.stop();
      for (const channel of this.#channels) channel.close();
      await this.#host.stop();
    }
    this.#checkHost();
    print(formatLedger(this.#accounts));
    return { complaints: this.#complaints, accounts: this.#accounts, counts: this.#counts };
  }

  // --- traffic -------------------------------------------------------------------------------------------------------

  /** Turns of all programs, until the end; everything else goes on meanwhile. */
  async #traffic(): Promise<void> {
    while (this.#administering) {
      for (const channel of this.#channels) channel.step(this.#generation);
      if ([...this.#channels].some((channel) => channel.awaitsAdmission)) this.#sample();
      await nextTurn();
    }
  }

  #sample(): void {
    const statuses = this.#host.daemon?.status().channels ?? [];
    for (const channel of this.#channels) {
      const { domid, deviceId } = channel.place;
      const status = statuses.find((candidate) => candidate.domid === domid && candidate.deviceId === deviceId);
      if (status !== undefined && status.name === channel.place.name) channel.sample(status, this.#generation);
    }
  }

  // --- what an admin, an upgrade and bad luck do ---------------------------------------------------------------------

  async #administer(): Promise<void> {
    const { seconds, crashes, print } = this.#options;
    const startMs = Date.now();
    let toldMs = startMs;
    for (let now = startMs; now < startMs + seconds * 1000; now = Date.now()) {
      if (now - toldMs >= 5000) {
        toldMs = now;
        print(this.#progress((now - startMs) / 1000));
      }
      const due = (crashes * (now - startMs)) / (seconds * 1000);
      if (this.#counts.crashes < due) await this.#crash();
      else await this.#anything();
      await pause(this.#random.between(1, 60));
    }
    while (this.#counts.crashes < crashes) await this.#crash();
  }

  async #anything(): Promise<void> {
    const random = this.#random;
    const channel = random.pick([...this.#channels]);
    const what = random.next();
    if (what < 0.2) await this.#restart();
    else if (what < 0.35) await this.#replug(channel);
    else if (what < 0.4) await this.#reincarnate(channel.place.domid);
    else if (what < 0.6) await this.#claim(channel);
    else if (what < 0.75) channel.reopen();
    else if (what < 0.85 && this.#options.ptys) await this.#restartAgent(channel.place.domid);
  }

  async #restart(): Promise<void> {
    this.#counts.restarts++;
    this.#sample();
    // Counted while the daemon stops, too: what it still drops then is in the handover.
    await this.#host.stopDaemon();
    for (const channel of this.#channels) channel.stopped();
    await pause(this.#random.pick([0, 0, 5, 50]));
    await this.#start({ gapExpected: false, moved: new Set() });
  }

  async #crash(): Promise<void> {
    this.#counts.crashes++;
    this.#sample();
    const moved = (this.#host.daemon?.status().channels ?? []).filter(
      ({ phase, fromGuestBytes, toGuestBytes }) => phase === 'connected' && fromGuestBytes + toGuestBytes > 0,
    );
    const crashed = this.#host.crashDaemon();
    for (const channel of this.#channels) channel.crashed();
    await crashed;
    await pause(this.#random.pick([0, 0, 5, 50]));
    await this.#start({ gapExpected: true, moved: new Set(moved.map(({ name }) => name)) });
  }

  /** Who was served before must say that there was a gap, and only then. */
  async #start({
    gapExpected,
    moved,
  }: {
    readonly gapExpected: boolean;
    readonly moved: ReadonlySet<string>;
  }): Promise<void> {
    this.#generation++;
    await this.#host.startDaemon();
    for (const { domid, deviceId, name, gap, phase, spool, recovered } of this.#host.daemon?.status().channels ?? []) {
      if (gap !== null) this.#counts.gaps++;
      const told =
        spool === 'file' ? gap === null && (recovered !== null) === gapExpected : (gap !== null) === gapExpected;
      // Where nothing had moved, nothing can be missing, and the daemon may know that.
      if (phase === 'connected' && !told && (!gapExpected || moved.has(name))) {
        this.#complaints.push(
          `${domid}/${deviceId} ${name}: gap ${JSON.stringify(gap)} after ${gapExpected ? 'a crash' : 'an orderly restart'}`,
        );
      }
    }
    this.#sample();
    if (!gapExpected) for (const channel of this.#channels) channel.checkRestored();
  }

  async #replug(channel: SoakChannel): Promise<void> {
    const { domid, name } = channel.place;
    this.#counts.unplugs++;
    const readToTheEnd = channel.stay();
    await detach(
      this.#host.store,
      { domain: `guest${domid}`, name, force: this.#random.chance(0.2) },
      this.#environment,
    );
    await this.#ended(channel, readToTheEnd);
    await this.#plug(domid);
  }

  /** The domain dies, and another gets its id. */
  async #reincarnate(domid: number): Promise<void> {
    this.#counts.domainDeaths++;
    const doomed = [...this.#channels].filter((channel) => channel.place.domid === domid);
    const readers = new Set(doomed.filter((channel) => channel.stay()));
    await this.#agents.get(domid)?.stop();
    await this.#host.destroyDomain(domid);
    await this.#until('the dead domain is gone', () => this.#host.hypervisor.zombies().length === 0);
    for (const channel of doomed) await this.#ended(channel, readers.has(channel));
    await this.#createDomain(domid);
    for (let n = 0; n < doomed.length; n++) await this.#plug(domid);
  }

  async #ended(channel: SoakChannel, readToTheEnd: boolean): Promise<void> {
    this.#channels.delete(channel);
    const key = `${channel.place.domid}/${channel.place.deviceId} ${channel.place.name}`;
    await this.#until(`${key} is over`, () => this.#finals.has(key) && channel.finishReading());
    this.#close(channel, { alive: false, readToTheEnd }, this.#finals.get(key));
  }

  #close(channel: SoakChannel, how: { alive: boolean; readToTheEnd: boolean }, final?: Final): void {
    const account = channel.account(final);
    this.#accounts.push(account);
    this.#endedBytes += channel.movedBytes;
    const { abandonable, written } = channel;
    const found = judge(account, { ...how, abandonable });
    if (account.up.produced > written || (how.alive && account.up.produced !== written))
      found.push(`to the host: the guest wrote ${written} bytes, the daemon saw ${account.up.produced}`);
    for (const sentence of found) this.#complaints.push(`${account.label}: ${sentence}`);
    channel.close();
  }

  /** What a guest's own program claims, in order and out of order. */
  async #claim(channel: SoakChannel): Promise<void> {
    const { domid, deviceId } = channel.place;
    const path = `${frontendPath(domid, deviceId)}/${KEY.guestOpen}`;
    await this.#host.store.write(path, this.#random.pick(['0', '1', '2', '']));
  }

  async #plug(domid: number): Promise<void> {
    const random = this.#random;
    this.#counts.plugs++;
    const name = parseChannelName(`soak.${this.#nextName++}`);
    const limitBytes = random.pick([4096, 65_536, 262_144, 1_048_576]);
    const overflow = random.pick(['drop-oldest', 'drop-newest'] as const);
    const spec = { name, connection: 'socket', backend: 'native', limitBytes, overflow } as const;
    const { deviceId, path } = await attach(
      this.#host.store,
      { domain: `guest${domid}`, spec, waitMs: 20_000 },
      this.#environment,
    );
    const guest = await this.#open(domid, name);
    this.#channels.add(
      new SoakChannel({ domid, deviceId, name, path }, guest, random.between(0, 2 ** 32 - 1), random.fork()),
    );
  }

  async #open(domid: number, name: string): Promise<GuestEnd> {
    if (this.#options.ptys) {
      const link = join(this.#host.domain(domid).root, 'dev/xenchannel', name);
      await this.#until(`${link} is there`, () => existsSync(link));
      return new PtyGuestEnd(link);
    }
    const line = this.#lines.lines.at(-1);
    if (line === undefined) throw new Error('the guest made no line');
    return new MemoryGuestEnd(line);
  }

  async #createDomain(domid: number): Promise<void> {
    const { root, storePath } = await this.#host.createDomain({ domid, name: `guest${domid}` });
    if (!this.#options.ptys) return;
    let agent: GuestAgent | undefined;
    let store: XenstoreClient | undefined;
    const agents: Agents = {
      start: async () => {
        store = await XenstoreClient.connect({ path: storePath, clock: systemClock, reconnect: false });
        const random = (bytes: number) => Uint8Array.from({ length: bytes }, () => this.#random.between(0, 255));
        agent = await GuestAgent.start({ store, root, clock: systemClock, log: this.#logger({ in: 'agent' }), random });
      },
      stop: async () => {
        await agent?.stop({ keepLinks: true });
        await store?.close();
      },
    };
    await agents.start();
    this.#agents.set(domid, agents);
  }

  async #restartAgent(domid: number): Promise<void> {
    this.#counts.agentRestarts++;
    const agent = this.#agents.get(domid);
    await agent?.stop();
    await pause(this.#random.pick([0, 20]));
    await agent?.start();
  }

  // --- the end -------------------------------------------------------------------------------------------------------

  async #settle(): Promise<void> {
    const all = [...this.#channels];
    for (const channel of all) channel.quiesce();
    const settled = (): boolean => {
      this.#sample();
      return all.every((channel) => channel.settled);
    };
    await this.#until('everything under way has arrived', settled).catch((error) => {
      const late = all.filter((channel) => !channel.settled);
      for (const channel of late) this.#complaints.push(`${String(error)}: ${channel.describe()}`);
    });
    // A claim of the guest may have silenced the host: what the guest writes lets it speak again.
    for (const channel of all) await this.#until('a last write is taken', () => channel.writeLast(LAST_BYTES));
    await this.#until('the last bytes have arrived', () => all.every((channel) => channel.arrived)).catch((error) => {
      this.#complaints.push(String(error));
    });
    this.#sample();
  }

  #checkHost(): void {
    const { hypervisor } = this.#host;
    const left = [hypervisor.mappedPages(), hypervisor.boundPorts(), hypervisor.zombies().length];
    if (left.some((count) => count > 0)) this.#complaints.push(`pages, ports and zombies left: ${left.join(', ')}`);
  }

  // --- helpers -------------------------------------------------------------------------------------------------------

  get #environment() {
    return { runDirectory: this.#host.runDirectory, backendDomid: 0, clock: systemClock };
  }

  #progress(seconds: number): string {
    const moved = [...this.#channels].reduce((sum, channel) => sum + channel.movedBytes, this.#endedBytes);
    const { restarts, crashes, unplugs, domainDeaths } = this.#counts;
    const mebibytes = (moved / 2 ** 20).toFixed(0);
    return `${seconds.toFixed(0)} s: ${mebibytes} MiB checked, ${restarts} restarts, ${crashes} crashes, ${unplugs} unplugs, ${domainDeaths} domain deaths, ${this.#complaints.length} complaints`;
  }

  async #until(what: string, condition: () => boolean): Promise<void> {
    const endMs = Date.now() + SETTLE_MS;
    while (!condition()) {
      if (Date.now() > endMs) throw new Error(`waited ${SETTLE_MS} ms in vain until ${what}`);
      await nextTurn();
    }
  }

  /** Keeps what the daemon says of a channel at its end, and notices every bug it reports. */
  #logger(base: LogFields): Logger {
    return {
      log: (level: LogLevel, msg: string, fields: LogFields = {}) => {
        this.#counts.logLines++;
        const all: LogFields = { ...base, ...fields };
        if (msg === 'channel over') this.#finals.set(`${all['domid']}/${all['deviceId']} ${all['name']}`, all as never);
        if (level === 'error' || all['code'] === 'internal-bug') {
          this.#complaints.push(`the log says: ${level} ${msg} ${JSON.stringify(all)}`);
        }
      },
      with: (fields) => this.#logger({ ...base, ...fields }),
    };
  }
}

const nextTurn = (): Promise<void> => new Promise((settle) => setImmediate(settle));
const pause = (delayMs: number): Promise<void> => new Promise((settle) => setTimeout(settle, delayMs));
