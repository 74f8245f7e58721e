/**
 * When domains come: gives each a Restoration, lets it look again with growing pauses for a bounded time, and tells what
 * came of it. Decides nothing about channels.
 */
import { readdir } from 'node:fs/promises';
import type { Store } from '../../xenstore/index.js';
import type { Clock, Timer } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import type { Domain } from '../dom0/domains.js';
import type { Look, Restoration, WantedState } from '../dom0/restoration.js';
import { DAEMON, type EventLog } from './events.js';
import { Timers } from './turns.js';

export interface RestorerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly events: EventLog;
  readonly runDirectory: string;
  readonly stateDirectory: string;
}

/** One wanted channel of a running domain. */
export type WantedStatus = WantedState & {
  readonly domid: number;
  readonly domain: string | null;
  readonly uuid: string | null;
  /** Nobody tries any more: it needs a look of the admin, a restart of the domain or of the daemon. */
  readonly givenUp: boolean;
};

/** The toolstack needs about as long to finish a domain; a restored one goes on soon after that. */
const QUICK_LOOK_MS = 100;
const QUICK_LOOKS = 30;
/** While the toolstack builds a domain. */
const UNREADY_LOOK_MS = 1000;
const LAST_PAUSE_MS = 15_000;
/** About ten minutes. */
export const MAX_LOOKS = 75;

/**
 * What only a host with records needs: a sixth of all files that the daemon would load, and it has to be quick when
 * guests wait for it.
 */
async function loadTools({ stateDirectory, clock }: RestorerOptions) {
  const [{ DesiredStore }, { listDomains }, { Restoration }] = await Promise.all([
    import('../dom0/desired-store.js'),
    import('../dom0/domains.js'),
    import('../dom0/restoration.js'),
  ]);
  return { desired: new DesiredStore({ directory: stateDirectory, clock }), listDomains, Restoration };
}

async function holdsNothing(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).length === 0;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

interface Case {
  readonly domid: number;
  uuid: string | undefined;
  readonly restoration: Restoration;
  domain: Domain | undefined;
  wanted: readonly WantedState[];
  looks: number;
  pending: boolean;
  /** Of the next look. */
  timer: Timer | undefined;
}

const waitsFor = ({ wanted }: Case, what: string): boolean => wanted.some(({ code }) => code === what);

export class Restorer {
  readonly #options: RestorerOptions;
  #tools: Awaited<ReturnType<typeof loadTools>> | undefined;
  readonly #timers: Timers;
  readonly #cases = new Map<number, Case>();
  readonly #told = new Map<string, string>();
  readonly #looking = new Set<Promise<void>>();
  #scanning: Promise<void> | undefined;
  #scanAgain = false;
  #stopped = false;

  constructor(options: RestorerOptions) {
    this.#options = options;
    this.#timers = new Timers(options.clock);
  }

  /** Some domain came or went, or the daemon has just begun. */
  domainsChanged(): void {
    if (this.#stopped) return;
    if (this.#scanning !== undefined) {
      this.#scanAgain = true;
      return;
    }
    this.#scanning = this.#scan()
      .catch((error: unknown) => this.#trouble('records of wanted channels', error))
      .finally(() => {
        this.#scanning = undefined;
        if (!this.#scanAgain) return;
        this.#scanAgain = false;
        this.domainsChanged();
      });
  }

  /** xenstore was told of a domain, not which: some have waited for that, even for long. */
  domainIntroduced(): void {
    for (const one of this.#cases.values()) {
      const isLooking = one.pending && one.timer === undefined;
      if (isLooking || !waitsFor(one, 'domain-not-ready')) continue;
      one.timer?.cancel();
      Object.assign(one, { pending: true, looks: 0 });
      this.#look(one);
    }
    this.domainsChanged();
  }

  /** The toolstack made the primary console: there may be little time until the guest goes on. */
  domainSettled(domid: number): void {
    const one = this.#cases.get(domid);
    if (one?.timer === undefined || !waitsFor(one, 'not-settled')) return;
    one.timer.cancel();
    this.#look(one);
  }

  status(): WantedStatus[] {
    return [...this.#cases.values()].flatMap(({ domid, domain, uuid, wanted, pending }) =>
      wanted.map((one) => ({
        domid,
        domain: domain?.name ?? null,
        uuid: domain?.uuid ?? uuid ?? null,
        ...one,
        givenUp: one.state !== 'there' && !pending,
      })),
    );
  }

  /** No look is begun any more; resolves when the last one has ended. */
  async stop(): Promise<void> {
    this.abandon();
    await this.#scanning;
    await Promise.all(this.#looking);
  }

  abandon(): void {
    this.#stopped = true;
    this.#timers.stop();
  }

  async #scan(): Promise<void> {
    if (this.#tools === undefined && (await holdsNothing(this.#options.stateDirectory))) return;
    this.#tools ??= await loadTools(this.#options);
    const { desired, listDomains, Restoration } = this.#tools;
    const { problems, records } = await desired.all();
    for (const { file, message } of problems) this.#tellOnce(file, message);
    if (records.length === 0 && this.#cases.size === 0) return;
    const domains = await listDomains(this.#options.store);
    for (const [domid, { uuid }] of this.#cases) {
      const now = domains.find((one) => one.domid === domid);
      if (now === undefined || (uuid !== undefined && now.uuid !== uuid)) this.#cases.delete(domid);
    }
    const uuids = new Set(records.map(({ key }) => ('uuid' in key ? key.uuid : undefined)));
    const names = new Set(records.map(({ key }) => ('name' in key ? key.name : undefined)));
    const isWanted = ({ uuid, name }: Domain): boolean =>
      // One that is still being built may get any of them.
      uuid === undefined || name === undefined || uuids.has(uuid) || names.has(name);
    const { store, clock, runDirectory } = this.#options;
    const env = { runDirectory, backendDomid: 0, clock };
    for (const domain of domains) {
      const { domid, uuid } = domain;
      if (this.#cases.has(domid) || !isWanted(domain)) continue;
      this.#begin(domain, new Restoration({ store, env, desired, domid, uuid }));
    }
  }

  #begin(domain: Domain, restoration: Restoration): void {
    const { domid, uuid } = domain;
    const one: Case = { domid, uuid, domain, restoration, wanted: [], looks: 0, pending: true, timer: undefined };
    this.#cases.set(domid, one);
    this.#look(one);
  }

  #look(one: Case): void {
    if (this.#stopped || this.#cases.get(one.domid) !== one) return;
    one.timer = undefined;
    one.looks++;
    const work = one.restoration
      .look()
      .then((look) => this.#note(one, look))
      .catch((error: unknown) => {
        this.#trouble(`domain ${one.domid}`, error);
        this.#lookLater(one);
      })
      .finally(() => this.#looking.delete(work));
    this.#looking.add(work);
  }

  #note(one: Case, look: Look): void {
    if (this.#stopped || this.#cases.get(one.domid) !== one) return;
    const before = one.wanted;
    Object.assign(one, { domain: look.domain, uuid: look.domain?.uuid ?? one.uuid, wanted: look.wanted });
    for (const { name, deviceId, path } of look.attached) this.#attached(one, { name, deviceId, path });
    for (const state of look.wanted) this.#tell(one, state, before);
    if (look.pending) this.#lookLater(one);
    else one.pending = false;
  }

  #lookLater(one: Case): void {
    if (one.looks >= MAX_LOOKS) {
      one.pending = false;
      for (const { name, code, message } of one.wanted.filter(({ state }) => state === 'waiting')) {
        const { domid } = one;
        this.#options.log.log('warn', 'wanted channel given up', { domid, name, code, reason: message });
      }
      return;
    }
    const slow = Math.max(0, one.looks - QUICK_LOOKS);
    // What it then waits for is told, mostly by `domainIntroduced`.
    const first = waitsFor(one, 'domain-not-ready') ? UNREADY_LOOK_MS : QUICK_LOOK_MS;
    one.timer = this.#timers.after(Math.min(LAST_PAUSE_MS, first * 2 ** slow), () => this.#look(one));
  }

  #attached(one: Case, { name, deviceId, path }: { name: string; deviceId: number; path: string }): void {
    const { log, events } = this.#options;
    log.log('info', 'wanted channel attached', { domid: one.domid, deviceId, name, path });
    events.publish('restored', { domid: one.domid, uuid: one.domain?.uuid ?? null, deviceId, name }, { path });
  }

  /** What stands against a channel, when it begins or changes; waiting for toolstack and guest is no trouble. */
  #tell(one: Case, { name, state, code, message, deviceId }: WantedState, before: readonly WantedState[]): void {
    if (code === null || message === null) return;
    const quiet = ['domain-not-ready', 'not-settled', 'guest-not-ready', 'detaching'].includes(code);
    if (quiet || before.some((other) => other.name === name && other.message === message)) return;
    const { log, events } = this.#options;
    log.log('warn', 'wanted channel not attached', { domid: one.domid, name, code, reason: message, state });
    const subject = { domid: one.domid, uuid: one.domain?.uuid ?? null, deviceId, name };
    events.publish('problem', subject, { code, message });
  }

  #tellOnce(file: string, message: string): void {
    if (this.#told.get(file) === message) return;
    this.#told.set(file, message);
    this.#options.log.log('error', message, { file });
    this.#options.events.publish('problem', DAEMON, { code: 'state-corrupt', message });
  }

  #trouble(what: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if (this.#stopped || this.#told.get(what) === message) return;
    this.#told.set(what, message);
    this.#options.log.log('error', 'wanted channels could not be looked after', { what, error: message });
  }
}
