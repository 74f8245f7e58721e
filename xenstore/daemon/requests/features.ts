/**
 * What Xen 4.22 added: GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA.
 * Source: xen:tools/xenstored/domain.c (do_get_feature and its neighbours).
 */
import type { StoreCore } from '../core.js';
import { ALL_FEATURES, type Domain } from '../domains.js';
import type { DaemonError } from '../likeness.js';
import { type QuotaName, RECENT_QUOTA_TEXTS } from '../quota.js';
import { atoi, type Request } from '../request.js';
import { parseDomid } from './domains.js';

const SOFT_MEMORY = 'soft-memory';
/** Q_VAL_DISABLED: cannot be set. */
const NO_QUOTA = 0xffffffff;

function namedDomain(core: StoreCore, text: string): Domain | DaemonError {
  const domid = parseDomid(text);
  if (domid === undefined) return 'EINVAL';
  return core.domains.ensure(domid, core.tree.generation) ?? 'ENOENT';
}

function nameOf(wire: string | undefined): QuotaName | undefined {
  return RECENT_QUOTA_TEXTS.find(([known]) => known === wire)?.[1];
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
    const names = RECENT_QUOTA_TEXTS.flatMap(([wire]) => (wire === 'memory' ? [wire, SOFT_MEMORY] : [wire]));
    core.reply(request, `${names.join(' ')}\0`);
    return undefined;
  }
  const domain = texts.length === 2 ? namedDomain(core, texts[0] ?? '') : undefined;
  if (typeof domain === 'string') return domain;
  const wire = texts[texts.length - 1];
  const name = nameOf(wire);
  if (name === undefined && wire !== SOFT_MEMORY) return 'EINVAL';
  const value = name === undefined ? (domain ?? core).softMemoryBytes : (domain?.quotas?.[name] ?? core.quotas[name]);
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
  const name = nameOf(wire);
  if ((name === undefined && wire !== SOFT_MEMORY) || value === NO_QUOTA) return 'EINVAL';
  if (name === undefined) (domain ?? core).softMemoryBytes = value;
  else (domain?.quotas ?? core.quotas)[name] = value;
  core.acknowledge(request);
  return undefined;
}
