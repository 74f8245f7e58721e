/**
 * Which domain the admin means: by id, name or uuid, among the domains that have a place in xenstore. Both name and
 * uuid are read from nodes that only dom0 may write.
 */

import type { StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { domainPath } from '../console/layout.js';
import { printable } from '../console/name.js';
import { mapBounded } from './environment.js';

export interface Domain {
  readonly domid: number;
  readonly name: string | undefined;
  /** Lower case. Stable where domid and name are not. */
  readonly uuid: string | undefined;
}

/** Ids from here on are reserved (xen:xen/include/public/xen.h, DOMID_FIRST_RESERVED). */
const FIRST_RESERVED_DOMID = 0x7ff0;
const MAX_SUGGESTIONS = 3;
const DOMID = /^(0|[1-9]\d{0,4})$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const isUuid = (text: unknown): text is string => typeof text === 'string' && UUID.test(text);

/** The domid a directory name below /local/domain stands for; undefined for anything else. */
export function parseDomid(text: string): number | undefined {
  return DOMID.test(text) && Number(text) < FIRST_RESERVED_DOMID ? Number(text) : undefined;
}

/** All domains but dom0, by id. A domain that vanishes meanwhile is left out. */
export async function listDomains(store: StoreOperations): Promise<Domain[]> {
  const domids = (await store.tryDirectory('/local/domain'))
    .map(parseDomid)
    .filter((domid) => domid !== undefined)
    .filter((domid) => domid !== 0)
    .sort((a, b) => a - b);
  const found = await mapBounded(domids, (domid) => readDomain(store, domid));
  return found.filter((domain) => domain !== undefined);
}

/** Name and uuid of a domain, or undefined when xenstore has no such domain. */
export async function readDomain(store: StoreOperations, domid: number): Promise<Domain | undefined> {
  const [name, vm] = await Promise.all([
    store.tryReadText(`${domainPath(domid)}/name`),
    store.tryReadText(`${domainPath(domid)}/vm`),
  ]);
  if (name === undefined && vm === undefined && !(await store.exists(domainPath(domid)))) return undefined;
  return { domid, name, uuid: uuidOf(vm) };
}

/** `/local/domain/D/vm` holds `/vm/UUID`; toolstacks may append a counter to it. */
function uuidOf(vm: string | undefined): string | undefined {
  const uuid = /^\/vm\/([0-9A-Fa-f-]{36})/.exec(vm ?? '')?.[1];
  return uuid !== undefined && UUID.test(uuid) ? uuid.toLowerCase() : undefined;
}

/**
 * The running domain that `text` names. An id wins over a name that looks like one. Throws `domain-not-found`,
 * `domain-ambiguous`, and `usage-invalid` for domain 0.
 */
export async function resolveDomain(store: StoreOperations, text: string): Promise<Domain> {
  const domid = parseDomid(text);
  if (domid === 0 || text === (await store.tryReadText(`${domainPath(0)}/name`))) {
    throw new ChannelError('usage-invalid', 'domain 0 cannot have a channel: it is the host end of all of them', {
      domid: 0,
    });
  }
  if (domid !== undefined) {
    const domain = await readDomain(store, domid);
    if (domain !== undefined) return domain;
  }
  const domains = await listDomains(store);
  const matches = UUID.test(text)
    ? domains.filter(({ uuid }) => uuid === text.toLowerCase())
    : domains.filter(({ name }) => name === text);
  const [first, ...others] = matches;
  if (first === undefined) throw notFound(text, domains);
  if (others.length > 0) {
    const domids = matches.map((domain) => domain.domid);
    throw new ChannelError(
      'domain-ambiguous',
      `${matches.length} domains are called ${printable(text)}: ${domids.slice(0, 8).join(', ')}; use the id`,
      { domids },
    );
  }
  return first;
}

function notFound(text: string, domains: readonly Domain[]): ChannelError {
  const near = nearNames(
    text,
    domains.flatMap(({ name }) => name ?? []),
  );
  const hint = near.length > 0 ? `; did you mean ${near.map((name) => printable(name)).join(' or ')}?` : '';
  return new ChannelError('domain-not-found', `no running domain has the id, name or uuid ${printable(text)}${hint}`, {
    domain: text.slice(0, 80),
    near,
  });
}

/** Names within two typing errors, or that begin like `text`; the nearest first. */
export function nearNames(text: string, names: readonly string[]): string[] {
  const wanted = text.toLowerCase().slice(0, 80);
  return [...new Set(names)]
    .map((name) => ({ name, distance: distanceOf(wanted, name.toLowerCase().slice(0, 80)) }))
    .filter(({ name, distance }) => distance <= 2 || (wanted.length >= 2 && name.toLowerCase().startsWith(wanted)))
    .sort((a, b) => a.distance - b.distance || a.name.localeCompare(b.name))
    .slice(0, MAX_SUGGESTIONS)
    .map(({ name }) => name);
}

/** Levenshtein's distance. */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** For messages: `5 (db1)`. */
export function describeDomain({ domid, name }: Domain): string {
  return name === undefined ? String(domid) : `${domid} (${name.replace(/[^\x20-\x7e]/g, '?').slice(0, 64)})`;
}
