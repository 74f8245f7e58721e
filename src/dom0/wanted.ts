/**
 * Which recorded channels are not attached, and why: for people who look at a list and miss one. Reads only; the daemon's
 * word, where there is a daemon, is better than what can be deduced.
 */
import type { StoreOperations } from '../../xenstore/index.js';
import { consoleIds, readChannels } from './channels.js';
import { fetchDaemonStatus } from './control-client.js';
import type { DesiredChannel, DesiredRecord } from './desired.js';
import { desiredStoreOf } from './desired-store.js';
import { type Domain, listDomains } from './domains.js';
import type { Dom0Environment } from './environment.js';
import { planReconcile } from './reconcile.js';

export interface MissingChannel {
  /** null: no such domain runs. */
  readonly domid: number | null;
  readonly domain: string | null;
  readonly uuid: string | null;
  readonly name: string;
  readonly reason: string;
}

/** What is missing on `domain`, or on all; `problems`: records that cannot be read. */
export async function listMissing(
  store: StoreOperations,
  env: Dom0Environment,
  domain?: Domain,
): Promise<{ missing: MissingChannel[]; problems: string[] }> {
  const desired = desiredStoreOf(env);
  if (desired === undefined) return { missing: [], problems: [] };
  const { records, problems } = await desired.all();
  const domains = records.length === 0 ? [] : domain === undefined ? await listDomains(store) : [domain];
  const missing: MissingChannel[] = [];
  for (const record of records) {
    const running = domains.filter((one) => isOf(record, one));
    for (const one of running) missing.push(...(await missingOf(store, env, one, record.channels)));
    if (running.length === 0 && domain === undefined) missing.push(...absent(record));
  }
  const told = missing.some(({ domid }) => domid !== null) ? await fetchReasons(env) : undefined;
  const explained = missing.map((one) => ({ ...one, reason: told?.(one) ?? one.reason }));
  return { missing: explained, problems: problems.map(({ message }) => message) };
}

const isOf = ({ key }: DesiredRecord, { uuid, name }: Domain): boolean =>
  'uuid' in key ? key.uuid === uuid : key.name === name;

function absent({ key, label, channels }: DesiredRecord): MissingChannel[] {
  const who = 'uuid' in key ? { uuid: key.uuid, domain: label ?? null } : { uuid: null, domain: key.name };
  return channels.map(({ spec }) => ({ domid: null, ...who, name: spec.name, reason: 'the domain does not run' }));
}

async function missingOf(
  store: StoreOperations,
  { backendDomid }: Dom0Environment,
  { domid, name, uuid }: Domain,
  desired: readonly DesiredChannel[],
): Promise<MissingChannel[]> {
  const [{ channels }, { ids }] = await Promise.all([
    readChannels(store, domid, backendDomid),
    consoleIds(store, domid, backendDomid),
  ]);
  const observed = { domid, channels, takenIds: ids, settled: true, awake: false };
  return planReconcile(desired, observed).flatMap((step) => {
    if (step.do === 'nothing') return [];
    const reason = step.do === 'refuse' ? step.reason : 'no daemon has attached it since the domain came';
    return [{ domid, domain: name ?? null, uuid: uuid ?? null, name: step.channel.spec.name, reason }];
  });
}

type Explain = (missing: MissingChannel) => string | undefined;

/** The daemon's own words. */
async function fetchReasons(env: Dom0Environment): Promise<Explain | undefined> {
  const answer = await fetchDaemonStatus(env, { domid: '0' });
  if (!isRecord(answer) || !Array.isArray(answer['wanted'])) return undefined;
  const told = answer['wanted'].filter(isRecord);
  return ({ domid, name }) => {
    const found = told.find((one) => one['domid'] === domid && one['name'] === name);
    const message = found?.['message'];
    return typeof message === 'string' ? message.slice(0, 500) : undefined;
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
