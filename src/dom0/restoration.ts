/**
 * One running domain on its way to having the channels that are wanted for it: each `look` compares, attaches what is
 * missing and helps the guest along. Knows no timer; whoever owns it says when to look again, and for how long.
 */
import type { Store } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { frontendPath } from '../console/layout.js';
import { checkAlive, claim, putInPlace } from './attach.js';
import type { DesiredChannel, DomainKey } from './desired.js';
import type { DesiredStore } from './desired-store.js';
import { type Domain, listDomains, readDomain } from './domains.js';
import type { Dom0Environment } from './environment.js';
import { observe, type Sight } from './observe.js';
import { planReconcile, type Step } from './reconcile.js';
import { buryDevice, removeUntouched, touchFrontend } from './revive.js';

export interface WantedState {
  readonly name: string;
  /** `there`: attached, and the guest has begun. */
  readonly state: 'there' | 'waiting' | 'refused';
  readonly deviceId: number | null;
  /** Why it is not there; null when it is. */
  readonly code: string | null;
  readonly message: string | null;
}

export interface Look {
  /** Looking again may change something. */
  readonly pending: boolean;
  readonly domain: Domain | undefined;
  readonly wanted: readonly WantedState[];
  /** What was attached in this look. */
  readonly attached: readonly Attached[];
}

type Attached = { readonly name: string; readonly deviceId: number; readonly path: string };

export interface RestorationOptions {
  readonly store: Store;
  readonly env: Dom0Environment;
  readonly desired: DesiredStore;
  readonly domid: number;
  readonly uuid: string | undefined;
}

/** A toolstack that has not finished by then does not make a primary console as libxl does. */
export const PATIENCE_MS = 5000;
/** A kernel that has looked at its other devices for so long, and not at this one, will not look by itself. */
export const OVERLOOKED_MS = 10_000;
/** A guest without other devices gives no sign; one that boots for longer takes the new device as well as the old. */
export const SILENT_MS = 120_000;

type Fresh = { readonly deviceId: number; readonly sinceMs: number };
type Wanted = { readonly key: DomainKey; readonly channel: DesiredChannel };

/** Nothing is wanted for it, or it is not the same any more. */
const OVER: Look = { pending: false, domain: undefined, wanted: [], attached: [] };

export class Restoration {
  readonly #options: RestorationOptions;
  /** Of the toolstack's time to finish, which begins when it introduces the domain. */
  #startMs: number;
  #introduced = false;
  #uuid: string | undefined;
  /** When the guest was seen to run first. */
  #awakeMs: number | undefined;
  /** What was attached here and the guest has not begun with, by name. */
  readonly #fresh = new Map<string, Fresh>();
  /** A second change of the id would not help where the first did not. */
  readonly #moved = new Set<string>();
  readonly #spentIds = new Set<number>();

  constructor(options: RestorationOptions) {
    this.#options = options;
    this.#uuid = options.uuid;
    this.#startMs = options.env.clock.now();
  }

  async look(): Promise<Look> {
    const { store, env, desired, domid } = this.#options;
    const domain = await readDomain(store, domid);
    // An id that was used again belongs to somebody else.
    if (domain === undefined || (this.#uuid !== undefined && domain.uuid !== this.#uuid)) return OVER;
    this.#uuid = domain.uuid;
    const wanted = await wantedFor(desired, domain);
    const patient = env.clock.now() - this.#startMs >= PATIENCE_MS;
    // One that is being built gets its name and uuid, and so its records, later.
    const halfBuilt = !patient && (domain.uuid === undefined || domain.name === undefined);
    if (wanted.length === 0) return { ...OVER, domain, pending: halfBuilt };
    const sight = await observe(store, domain, { backendDomid: env.backendDomid, patient, automatic: true });
    if (sight.awake) this.#awakeMs ??= env.clock.now();
    if (!sight.introduced) this.#startMs = env.clock.now();
    else this.#introduced = true;
    const early = sight.unborn && !this.#introduced ? await this.#placeUnborn(domain, wanted, sight) : [];
    if (sight.unready !== undefined) return { ...this.#unready(domain, wanted, sight.unready), attached: early };
    const channels = wanted.map(({ channel }) => channel);
    const steps = planReconcile(channels, { ...sight, spentIds: [...this.#spentIds] });
    const states: WantedState[] = [];
    const attached: Attached[] = [];
    let pending = false;
    for (const step of steps) {
      const key = wanted.find(({ channel }) => channel === step.channel)?.key;
      if (key === undefined) continue;
      const { state, again, path } = await this.#take(step, { domain, key });
      states.push(state);
      pending ||= again;
      if (path !== undefined && state.deviceId !== null) {
        attached.push({ name: state.name, deviceId: state.deviceId, path });
      }
    }
    return { pending, domain, wanted: states, attached };
  }

  #unready(domain: Domain, wanted: readonly Wanted[], message: string): Look {
    const states = wanted.map(({ channel }) => waiting(channel, null, 'domain-not-ready', message));
    return { pending: true, domain, wanted: states, attached: [] };
  }

  /**
   * A restored guest looks for its devices some hundredths of a second after libxl has finished the domain, and forgets
   * those whose nodes are missing; on a slow host that is less than what an attach takes. So those that it had stand there
   * before it is introduced. Their ids were chosen beside those of libxl's own channels, which it numbers in the order
   * of the configuration; if that has changed meanwhile, libxl removes what is in its way
   * (xen:tools/libs/light/libxl_device.c, libxl__device_generic_add), and a later look finds another id.
   */
  async #placeUnborn(domain: Domain, wanted: readonly Wanted[], sight: Sight): Promise<Attached[]> {
    const { clock } = this.#options.env;
    for (const [name, { deviceId }] of this.#fresh) this.#fresh.set(name, { deviceId, sinceMs: clock.now() });
    const channels = wanted.map(({ channel }) => channel);
    const attached: Attached[] = [];
    for (const step of planReconcile(channels, { ...sight, settled: true })) {
      const { spec, last } = step.channel;
      const key = wanted.find(({ channel }) => channel === step.channel)?.key;
      // QEMU has to be asked first, and runs only when the domain is built.
      if (step.do !== 'attach' || spec.backend === 'qemu' || key === undefined) continue;
      // What has no place yet has time; and in a domain that comes to its end its own id would be the last one.
      if (last === undefined || last.domid === domain.domid || last.deviceId !== step.deviceId) continue;
      const { path } = await this.#take(step, { domain, key });
      if (path !== undefined) attached.push({ name: spec.name, deviceId: step.deviceId, path });
    }
    return attached;
  }

  async #take(step: Step, place: Place): Promise<Taken> {
    const { channel } = step;
    if (step.do === 'refuse') {
      const { code, reason, passing } = step;
      const { name } = channel.spec;
      const state = passing ? 'waiting' : 'refused';
      return { state: { name, state, deviceId: null, code, message: reason }, again: passing };
    }
    if (step.do === 'nothing') return this.#help(channel, step.deviceId, place);
    try {
      return await this.#attach(step, place);
    } catch (error) {
      if (!(error instanceof ChannelError)) throw error;
      // A path that is still taken is free when the former domain is gone; whatever it is, the tries are counted.
      return { state: waiting(channel, null, error.code, error.message), again: true };
    }
  }

  async #attach({ channel, deviceId, deadId }: Step & { do: 'attach' }, { domain, key }: Place): Promise<Taken> {
    const { store, env, desired } = this.#options;
    const { domid } = domain;
    const spec = { ...channel.spec, deviceId };
    const input = await claim({ domain, spec, formerDomids: await this.#otherIds(domain) }, env);
    const { path } = input;
    // The look may be older than the domain's end.
    if (this.#introduced) await checkAlive(store, domain);
    await putInPlace(store, input, env);
    this.#fresh.set(channel.spec.name, { deviceId, sinceMs: env.clock.now() });
    if (deadId !== undefined) await buryDevice(store, { domid, deviceId: deadId, backendDomid: env.backendDomid });
    await desired.moved(key, channel.spec.name, { domid, deviceId });
    const state = waiting(channel, deviceId, 'guest-not-ready', 'the guest has not begun with it yet');
    return { state, again: true, path };
  }

  /** Other ids of the same domain. */
  async #otherIds({ domid, uuid }: Domain): Promise<number[]> {
    if (uuid === undefined) return [];
    const domains = await listDomains(this.#options.store);
    return domains.filter((one) => one.uuid === uuid && one.domid !== domid).map((one) => one.domid);
  }

  /** It is attached: the guest has to begin with it. What others attached is theirs to look after. */
  async #help(channel: DesiredChannel, deviceId: number, { domain, key }: Place): Promise<Taken> {
    const { store, env, desired } = this.#options;
    const { name, backend } = channel.spec;
    // Others attached it, or the daemon died before it could write it down.
    const isRecorded = channel.last?.domid === domain.domid && channel.last.deviceId === deviceId;
    if (!isRecorded) await desired.moved(key, name, { domid: domain.domid, deviceId });
    const fresh = this.#fresh.get(name);
    const there: Taken = { state: { name, state: 'there', deviceId, code: null, message: null }, again: false };
    if (fresh === undefined || fresh.deviceId !== deviceId) return there;
    const address = { domid: domain.domid, deviceId, backendDomid: env.backendDomid };
    if ((await store.tryReadText(`${frontendPath(domain.domid, deviceId)}/state`)) !== '1') {
      this.#fresh.delete(name);
      return there;
    }
    const message = 'the guest has not begun with it yet';
    // QEMU would keep the chardev, whose id contains the device id.
    const mayMove = backend === 'native' && !this.#moved.has(name);
    if (mayMove && this.#isOverlooked(fresh)) {
      this.#moved.add(name);
      if (await removeUntouched(store, address)) {
        this.#fresh.delete(name);
        this.#spentIds.add(deviceId);
        return { state: waiting(channel, null, 'guest-not-ready', message), again: true };
      }
    } else await touchFrontend(store, address);
    return { state: waiting(channel, deviceId, 'guest-not-ready', message), again: true };
  }

  /** A kernel that still boots is not taken for one that has looked past the device. */
  #isOverlooked({ sinceMs }: Fresh): boolean {
    const now = this.#options.env.clock.now();
    if (this.#awakeMs === undefined) return now - sinceMs >= SILENT_MS;
    return now - Math.max(sinceMs, this.#awakeMs) >= OVERLOOKED_MS;
  }
}

type Place = { readonly domain: Domain; readonly key: DomainKey };
/** `path`: it was attached there just now. */
type Taken = { readonly state: WantedState; readonly again: boolean; readonly path?: string };

function waiting({ spec }: DesiredChannel, deviceId: number | null, code: string, message: string): WantedState {
  return { name: spec.name, state: 'waiting', deviceId, code, message };
}

/** What is wanted for a domain, with the record that says so; a uuid's record counts more than a name's. */
export async function wantedFor(desired: DesiredStore, domain: Domain): Promise<Wanted[]> {
  const wanted: Wanted[] = [];
  for (const { key, channels } of await desired.recordsFor(domain)) {
    for (const channel of channels) {
      if (!wanted.some((one) => one.channel.spec.name === channel.spec.name)) wanted.push({ key, channel });
    }
  }
  return wanted;
}
