/**
 * Requests about domains: INTRODUCE, RELEASE, RESUME, SET_TARGET, GET_DOMAIN_PATH, IS_DOMAIN_INTRODUCED.
 * Source: xen:tools/xenstore/xenstored_domain.c (do_introduce and its neighbours).
 */
import type { StoreCore } from '../core.js';
import type { Domain } from '../domains.js';
import { introduceDomain, releaseDomain } from '../lifecycle.js';
import type { DaemonError } from '../likeness.js';
import { atoi, type Request } from '../request.js';

const MAX_DOMID = 0xffff;

/** What the text means as a domid. Before 4.22 any text means one. */
function domidOf(core: StoreCore, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return core.rules.features ? parseDomid(text) : atoi(text) >>> 0;
}

/** As strtoul reads it, all of it. */
export function parseDomid(text: string): number | undefined {
  if (!/^[ \t\n\v\f\r]*\+?\d+$/.test(text) && text !== '') return undefined;
  const domid = Number(text);
  return domid <= MAX_DOMID ? domid : undefined;
}

const DOMID_SELF = 0x7ff0;

export function introduce(core: StoreCore, request: Request): DaemonError | undefined {
  const [domidText, gfn, portText] = request.strings();
  if (domidText === undefined || gfn === undefined || portText === undefined) return 'EINVAL';
  // Unsigned in C, so that only 0 is refused.
  if (atoi(portText) === 0) return 'EINVAL';
  const domid = domidOf(core, domidText);
  if (domid === undefined) return 'EINVAL';
  core.domains.introduceImplicitly(domid);
  if (introduceDomain(core, domid) === undefined) return 'EINVAL';
  core.acknowledge(request);
  return undefined;
}

/** The introduced domain, not dom0, that the only argument names. */
function namedDomain(core: StoreCore, request: Request): Domain | DaemonError {
  const text = request.onlyString();
  const domid = domidOf(core, text);
  if (domid === undefined || domid === 0) return 'EINVAL';
  return core.domains.introduced(domid) ?? 'ENOENT';
}

export function release(core: StoreCore, request: Request): DaemonError | undefined {
  const domain = namedDomain(core, request);
  if (typeof domain === 'string') return domain;
  // The main loop holds the connection that it will serve next: that one is freed only at its turn, after the reply.
  if (isServedNext(core, request, domain)) core.afterReply = () => releaseDomain(core, domain);
  else releaseDomain(core, domain);
  core.acknowledge(request);
  return undefined;
}

/** Whether nobody comes between the requester and the domain in the daemon's list of connections. */
function isServedNext(core: StoreCore, request: Request, domain: Domain): boolean {
  const after = request.connection.sequence;
  const isBetween = (sequence: number) => sequence > after && sequence < domain.sequence;
  if (domain.sequence < after) return false;
  for (const other of core.connections) if (other.privileged && isBetween(other.sequence)) return false;
  for (const other of core.domains.all()) if (other.introduced && isBetween(other.sequence)) return false;
  return true;
}

export function resume(core: StoreCore, request: Request): DaemonError | undefined {
  const domain = namedDomain(core, request);
  if (typeof domain === 'string') return domain;
  domain.shutdown = false;
  core.acknowledge(request);
  return undefined;
}

export function setTarget(core: StoreCore, request: Request): DaemonError | undefined {
  const [domidText, targetText] = request.strings();
  if (domidText === undefined || targetText === undefined) return 'EINVAL';
  const [domid, targetDomid] = [domidOf(core, domidText), domidOf(core, targetText)];
  if (domid === undefined || targetDomid === undefined) return 'EINVAL';
  const domain = core.domains.introduced(domid);
  const target = core.domains.introduced(targetDomid);
  if (domain === undefined || target === undefined) return 'ENOENT';
  domain.target = target;
  core.acknowledge(request);
  return undefined;
}

export function getDomainPath(core: StoreCore, request: Request): DaemonError | undefined {
  const text = request.onlyString();
  const domid = domidOf(core, text);
  if (domid === undefined) return 'EINVAL';
  core.reply(request, `/local/domain/${domid}\0`);
  return undefined;
}

export function isDomainIntroduced(core: StoreCore, request: Request): DaemonError | undefined {
  const text = request.onlyString();
  const domid = domidOf(core, text);
  if (domid === undefined) return 'EINVAL';
  core.reply(request, domid === DOMID_SELF || core.domains.introduced(domid) !== undefined ? 'T\0' : 'F\0');
  return undefined;
}
