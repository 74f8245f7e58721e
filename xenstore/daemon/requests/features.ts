/**
 * What Xen 4.22 added: GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA.
 * Source: xen:tools/xenstored/domain.c (do_get_feature and its neighbours).
 */
import type { StoreCore } from '../core.js';
import { ALL_FEATURES, type Domain } from '../domains.js';
import type { DaemonError } from '../likeness.js';
import type { QuotaName } from '../quota.js';
import { atoi, type Request } from '../request.js';

/** In the order in which GET_QUOTA lists them; CONTROL calls one of them otherwise. */
const NAMES: ReadonlyArray<readonly [wire: string, name: QuotaName]> = [
  ['nodes', 'nodes'],
  ['watches', 'watches'],
  ['outstanding', 'outstanding'],
  ['memory', 'memory'],
  ['transactions', 'transactions'],
  ['transaction-nodes', 'transaction-nodes'],
  ['node-permissions', 'permissions'],
  ['path-max', 'path-max'],
  ['node-size', 'node-size'],
];
const SOFT_MEMORY = 'soft-memory';

function namedDomain(core: StoreCore, text: string): Domain | DaemonError {
  const domid = /^\s*\+?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(domid <= 0xffff)) return 'EINVAL';
  return core.domains.ensure(domid, core.tree.generation) ?? 'ENOENT';
}

export function getFeature(core: StoreCore, request: Request): DaemonError | undefined {
  const { connection } = request;
  const [text, ...more] = request.strings();
  let features = connection.domain?.features ?? ALL_FEATURES;
  if (text !== undefined) {
    if (!connection.privileged) return 'EACCES';
    const domain = more.length > 0 ? 'EINVAL' : namedDomain(core, text);
    if (typeof domain === 'string') return domain;
    features = domain.features;
  }
  core.reply(request, `${features}\0`);
  return undefined;
}

/** A domain that migrated here may have been told less; only before it is introduced. */
export function setFeature(core: StoreCore, request: Request): DaemonError | undefined {
  const [text, value, ...more] = request.strings();
  if (text === undefined || value === undefined || more.length > 0) return 'EINVAL';
  const domain = namedDomain(core, text);
  if (typeof domain === 'string') return domain;
  if (domain.introduced) return 'EBUSY';
  const features = atoi(value);
  if ((features & ~ALL_FEATURES) !== 0) return 'EINVAL';
  domain.features = features;
  core.acknowledge(request);
  return undefined;
}

export function getQuota(core: StoreCore, request: Request): DaemonError | undefined {
  const texts = request.strings();
  if (texts.length > 2) return 'EINVAL';
  if (texts.length === 0) {
    const names = NAMES.flatMap(([wire]) => (wire === 'memory' ? [wire, SOFT_MEMORY] : [wire]));
    core.reply(request, `${names.join(' ')}\0`);
    return undefined;
  }
  const domain = texts.length === 2 ? namedDomain(core, texts[0] ?? '') : undefined;
  if (typeof domain === 'string') return domain;
  const wire = texts[texts.length - 1];
  const name = NAMES.find(([known]) => known === wire)?.[1];
  if (name === undefined && wire !== SOFT_MEMORY) return 'EINVAL';
  const value = name === undefined ? core.softMemoryBytes : (domain?.quotas?.[name] ?? core.quotas[name]);
  core.reply(request, `${value}\0`);
  return undefined;
}

export function setQuota(core: StoreCore, request: Request): DaemonError | undefined {
  const texts = request.strings();
  if (texts.length < 2 || texts.length > 3) return 'EINVAL';
  const domain = texts.length === 3 ? namedDomain(core, texts[0] ?? '') : undefined;
  if (typeof domain === 'string') return domain;
  const wire = texts[texts.length - 2];
  const value = atoi(texts[texts.length - 1] ?? '') >>> 0;
  const name = NAMES.find(([known]) => known === wire)?.[1];
  if (name === undefined) return 'EINVAL';
  if (domain === undefined) core.quotas[name] = value;
  else domain.quotas = { ...domain.quotas, [name]: value };
  core.acknowledge(request);
  return undefined;
}
