/**
 * How far a domain is: whether the toolstack has finished it and its kernel has begun, as far as xenstore tells, and
 * which channels it has. Reads only; what a guest wrote is a hint here, never a fact.
 */
import type { Store, StoreOperations } from '../../xenstore/index.js';
import { domainPath, libxlPath } from '../console/layout.js';
import { consoleIds, readChannels } from './channels.js';
import type { Domain } from './domains.js';
import { mapBounded } from './environment.js';
import type { Observed } from './reconcile.js';

/** Frontends that are asked for a sign of life. */
const MAX_SIGNS = 64;

export interface Sight extends Observed {
  /** Why nothing may be attached yet. */
  readonly unready: string | undefined;
  readonly introduced: boolean;
  /** libxl has begun to make it, and neither given it to xenstore nor a primary console. Also true at its very end. */
  readonly unborn: boolean;
}

/**
 * `patient`: long enough was waited for the toolstack to finish. `automatic`: no person says that it may be done.
 */
export async function observe(
  store: Store,
  domain: Domain,
  { backendDomid, patient, automatic = false }: { backendDomid: number; patient: boolean; automatic?: boolean },
): Promise<Sight> {
  const { domid } = domain;
  const [notUsable, introduced, { channels }, { ids }, awake, built, byLibxl] = await Promise.all([
    usabilityProblem(store, domain, patient),
    store.isDomainIntroduced(domid),
    readChannels(store, domid, backendDomid),
    consoleIds(store, domid, backendDomid),
    isAwake(store, domid),
    // libxl makes the primary console after all channels of the configuration, and before the domain runs.
    store.exists(libxlPath(domid, 0)),
    store.exists(`/libxl/${domid}/type`),
  ]);
  const unready = notUsable ?? (introduced ? undefined : 'it is not introduced to xenstore');
  // Where libxl has made the domain, one without a primary console is not built yet, or is being taken apart already:
  // libxl removes the consoles first, and what came after that would stay for ever.
  const settled = built || (!(automatic && byLibxl) && (awake || patient));
  const unborn = byLibxl && !built && !introduced;
  return { domid, channels, takenIds: ids, awake, settled, unready, introduced, unborn };
}

/** A toolstack writes a domain's directory at once and introduces it when it is built; others do it bit by bit. */
async function usabilityProblem(
  store: Store,
  { domid, name, uuid }: Domain,
  patient: boolean,
): Promise<string | undefined> {
  if ((name === undefined || uuid === undefined) && !patient) {
    return 'the toolstack has not given it a name and a uuid yet';
  }
  if (!(await store.exists(`${domainPath(domid)}/device`))) return 'the toolstack has not made its devices yet';
  const permissions = await store.getPermissions(`${domainPath(domid)}/device`);
  const reads = permissions.some(
    ({ domid: who, access }, index) => who === domid && (index === 0 || access === 'r' || access === 'b'),
  );
  return reads ? undefined : 'it may not read its own devices yet';
}

/**
 * Some frontend is past Initialising, or something was wrong with one: only a kernel that looked at its devices writes
 * that. A restored one says so of each device whose nodes are missing (linux:drivers/xen/xenbus/xenbus_client.c,
 * xenbus_va_dev_error).
 */
async function isAwake(store: StoreOperations, domid: number): Promise<boolean> {
  if (await store.exists(`${domainPath(domid)}/error/device`)) return true;
  const root = `${domainPath(domid)}/device`;
  const paths: string[] = [];
  for (const kind of (await store.tryDirectory(root)).slice(0, MAX_SIGNS)) {
    for (const id of await store.tryDirectory(`${root}/${kind}`)) paths.push(`${root}/${kind}/${id}/state`);
    if (paths.length >= MAX_SIGNS) break;
  }
  const states = await mapBounded(paths.slice(0, MAX_SIGNS), (path) => store.tryReadText(path));
  return states.some((state) => state === '3' || state === '4');
}
