/**
 * Makes a host have the channels of a file: plans every step first, then takes one after the other, and tells each. What
 * is attached is recorded, so that it comes back; for a domain that does not run, the record is all there is to do.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Store } from '../../xenstore/index.js';
import { ChannelError, type ErrorCode } from '../base/errors.js';
import { attach } from './attach.js';
import { readChannels } from './channels.js';
import type { DesiredChannel, DesiredRecord, DomainKey } from './desired.js';
import type { DesiredDomain } from './desired-file.js';
import { type DesiredStore, desiredStoreOf } from './desired-store.js';
import { type Domain, isUuid, listDomains } from './domains.js';
import type { Dom0Environment } from './environment.js';
import { observe } from './observe.js';
import { detachAndForget } from './persist.js';
import { planReconcile, type Step } from './reconcile.js';
import { buryDevice } from './revive.js';
import { toChannelError } from './store-errors.js';

export type ApplyAction =
  /** It is as it shall be. */
  | 'keep'
  | 'attach'
  /** It is attached, or its domain does not run: only the record is written. */
  | 'record'
  /** `prune`: it is recorded, and the file does not have it. */
  | 'detach'
  | 'forget'
  | 'refuse';

export interface ApplyStep {
  readonly action: ApplyAction;
  /** As the file has it, or the record. */
  readonly domain: string;
  readonly domid: number | null;
  readonly name: string;
  readonly deviceId: number | null;
  /** Of `refuse`. */
  readonly reason: string | null;
}

export interface ApplyResult extends ApplyStep {
  /** null: done. */
  readonly error: { readonly code: ErrorCode; readonly message: string } | null;
}

export interface ApplyRequest {
  readonly domains: readonly DesiredDomain[];
  /** Take off what is recorded and not in the file. What somebody attached without a record stays. */
  readonly prune?: boolean;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  readonly onStep?: (result: ApplyResult, index: number, total: number) => void;
}

/** A step, and how it is taken. */
interface Planned extends ApplyStep {
  readonly run?: () => Promise<void>;
}

/** Throws only when nothing could be planned; what went wrong with a step stands in its result. */
export async function applyDesired(store: Store, request: ApplyRequest, env: Dom0Environment): Promise<ApplyResult[]> {
  const desired = desiredStoreOf(env);
  if (desired === undefined) throw new ChannelError('internal-bug', 'no state directory is known');
  const planned = await new Planner(store, desired, request, env).plan();
  const results: ApplyResult[] = [];
  for (const [index, { run, ...step }] of planned.entries()) {
    const result = { ...step, error: await errorOf(step, request.dryRun === true ? undefined : run) };
    results.push(result);
    request.onStep?.(result, index, planned.length);
    if (request.signal?.aborted === true) throw request.signal.reason;
  }
  return results;
}

async function errorOf(step: ApplyStep, run: (() => Promise<void>) | undefined): Promise<ApplyResult['error']> {
  if (step.action === 'refuse') return { code: 'apply-incomplete', message: step.reason ?? '' };
  try {
    await run?.();
    return null;
  } catch (error) {
    const { code, message } = toChannelError(error);
    if (code === 'internal-bug') throw error;
    return { code, message };
  }
}

class Planner {
  readonly #store: Store;
  readonly #desired: DesiredStore;
  readonly #request: ApplyRequest;
  readonly #env: Dom0Environment;

  constructor(store: Store, desired: DesiredStore, request: ApplyRequest, env: Dom0Environment) {
    this.#store = store;
    this.#desired = desired;
    this.#request = request;
    this.#env = env;
  }

  async plan(): Promise<Planned[]> {
    const running = await listDomains(this.#store);
    const { records, problems } = await this.#desired.all();
    const [problem] = problems;
    // Half of the records is not the state of the host.
    if (problem !== undefined) throw new ChannelError('state-corrupt', problem.message, { file: problem.file });
    const planned: Planned[] = [];
    // First what goes: it may have the ids and paths of what comes.
    if (this.#request.prune === true) {
      for (const record of records) planned.push(...(await this.#planPrune(record, running)));
    }
    for (const wanted of this.#request.domains) planned.push(...(await this.#planDomain(wanted, running, records)));
    return planned;
  }

  async #planDomain(wanted: DesiredDomain, running: Domain[], records: readonly DesiredRecord[]): Promise<Planned[]> {
    const { who, channels } = wanted;
    const [domain, ...others] = running.filter((one) => isCalled(one, who));
    if (others.length > 0) {
      return channels.map((one) => refusal(who, one, `${others.length + 1} running domains are called so`));
    }
    const key: DomainKey = domain?.uuid !== undefined ? { uuid: domain.uuid } : keyOfText(who);
    const recorded = recordedFor(records, key, domain?.name ?? who);
    if (domain === undefined) {
      return channels.map((channel) => this.#planRecord({ who, key, domain }, channel, recorded));
    }
    const known = channels.map(({ spec }) => withLast({ spec }, recorded));
    const sight = await observe(this.#store, domain, { backendDomid: this.#env.backendDomid, patient: true });
    if (sight.unready !== undefined) return channels.map((one) => refusal(who, one, sight.unready ?? ''));
    return planReconcile(known, sight).map((step) => this.#planStep({ who, key, domain }, step, recorded));
  }

  #planStep(place: Place, step: Step, recorded: readonly DesiredChannel[]): Planned {
    const { who, domain } = place;
    const { channel } = step;
    if (step.do === 'refuse') return { ...refusal(who, channel, step.reason), domid: domain?.domid ?? null };
    if (step.do === 'attach') {
      const run = (): Promise<void> => this.#attach(place, step);
      return { ...describe('attach', place, channel), deviceId: step.deviceId, run };
    }
    const at = domain === undefined ? {} : { last: { domid: domain.domid, deviceId: step.deviceId } };
    return { ...this.#planRecord(place, { ...channel, ...at }, recorded), deviceId: step.deviceId };
  }

  #planRecord(place: Place, channel: DesiredChannel, recorded: readonly DesiredChannel[]): Planned {
    const before = recorded.find(({ spec }) => spec.name === channel.spec.name);
    if (before !== undefined && isDeepStrictEqual(before.spec, channel.spec)) return describe('keep', place, channel);
    const run = (): Promise<void> => this.#record(place, withLast(channel, recorded));
    return { ...describe('record', place, channel), run };
  }

  async #attach(place: Place, { channel, deviceId, deadId }: Step & { do: 'attach' }): Promise<void> {
    const { domain } = place;
    if (domain === undefined) return;
    const { signal } = this.#request;
    const { domid, uuid } = domain;
    const spec = { ...channel.spec, deviceId };
    const at = { domain: String(domid), spec, uuid, ...(signal === undefined ? {} : { signal }) };
    await attach(this.#store, at, this.#env);
    const { backendDomid } = this.#env;
    if (deadId !== undefined) await buryDevice(this.#store, { domid, deviceId: deadId, backendDomid });
    await this.#record(place, { ...channel, last: { domid, deviceId } });
  }

  /** The uuid's record takes over what was recorded for the name. */
  async #record({ key, domain, who }: Place, channel: DesiredChannel): Promise<void> {
    await this.#desired.put(key, channel, domain?.name ?? (isUuid(who) ? undefined : who));
    if ('uuid' in key && domain?.name !== undefined) {
      await this.#desired.forget({ name: domain.name }, channel.spec.name);
    }
  }

  async #planPrune(record: DesiredRecord, running: readonly Domain[]): Promise<Planned[]> {
    const { key, label, channels } = record;
    const who = 'uuid' in key ? (label ?? key.uuid) : key.name;
    const domain = running.find((one) => ('uuid' in key ? one.uuid === key.uuid : one.name === key.name));
    const names = this.#request.domains
      .filter((one) => isMeant(one.who, record, domain))
      .flatMap((one) => one.channels.map(({ spec }) => spec.name as string));
    const surplus = channels.filter(({ spec }) => !names.includes(spec.name));
    const there = domain === undefined ? [] : await this.#attachedNames(domain);
    return surplus.map((channel): Planned => {
      const { name } = channel.spec;
      const place = { who, key, domain };
      if (domain !== undefined && there.includes(name)) {
        const { signal } = this.#request;
        const request = { domain: String(domain.domid), name, ...(signal === undefined ? {} : { signal }) };
        const run = async (): Promise<void> => void (await detachAndForget(this.#store, request, this.#env));
        return { ...describe('detach', place, channel), run };
      }
      const run = async (): Promise<void> => void (await this.#desired.forget(key, name));
      return { ...describe('forget', place, channel), run };
    });
  }

  /** Ours only: what the toolstack made under the same name is not taken off. */
  async #attachedNames({ domid }: Domain): Promise<(string | undefined)[]> {
    const { channels } = await readChannels(this.#store, domid, this.#env.backendDomid);
    return channels.filter(({ server }) => server !== 'toolstack').map(({ name }) => name);
  }
}

type Place = { readonly who: string; readonly key: DomainKey; readonly domain: Domain | undefined };

const isCalled = ({ uuid, name }: Domain, who: string): boolean =>
  isUuid(who) ? uuid === who.toLowerCase() : name === who;

const keyOfText = (who: string): DomainKey => (isUuid(who) ? { uuid: who.toLowerCase() } : { name: who });

/** Whether the entry of the file is about the domain of this record. */
function isMeant(who: string, { key, label }: DesiredRecord, domain: Domain | undefined): boolean {
  if (domain !== undefined && isCalled(domain, who)) return true;
  if ('name' in key) return key.name === who;
  return isUuid(who) ? key.uuid === who.toLowerCase() : domain === undefined && label === who;
}

function recordedFor(records: readonly DesiredRecord[], key: DomainKey, name: string): readonly DesiredChannel[] {
  const own = records.find((one) => isDeepStrictEqual(one.key, key));
  return own?.channels ?? records.find((one) => 'name' in one.key && one.key.name === name)?.channels ?? [];
}

function withLast({ spec, last }: DesiredChannel, recorded: readonly DesiredChannel[]): DesiredChannel {
  const known = last ?? recorded.find((one) => one.spec.name === spec.name)?.last;
  return known === undefined ? { spec } : { spec, last: known };
}

function describe(action: ApplyAction, { who, domain }: Place, { spec }: DesiredChannel): ApplyStep {
  return { action, domain: who, domid: domain?.domid ?? null, name: spec.name, deviceId: null, reason: null };
}

function refusal(who: string, { spec }: DesiredChannel, reason: string): ApplyStep {
  return { action: 'refuse', domain: who, domid: null, name: spec.name, deviceId: null, reason };
}
