/**
 * Who may do what on a node. Decides; changes nothing.
 * Source: xen:tools/xenstore/xenstored_core.c (perm_for_conn), xenstored_domain.c (domain_adjust_node_perms).
 */
import type { Domain, DomainTable } from './domains.js';
import { NodePermissions, OWNER, type PermissionEntry, READ, WRITE } from './node-permissions.js';

export interface Actor {
  readonly domid: number;
  readonly privileged: boolean;
  readonly domain: Domain | undefined;
}

/** An entry for it means every domain (xen:xen/include/public/xen.h); from Xen 4.22 on. */
export const DOMID_ANY = 0x7ff5;

const EVERYTHING = READ | WRITE | OWNER;

/** READ, WRITE and OWNER bits of `actor` on a node with these permissions, last written at `generation`. */
export function rightsOf(actor: Actor, permissions: NodePermissions, generation: number, domains: DomainTable): number {
  if (actor.privileged || permissions.owner === actor.domid) return EVERYTHING;
  const target = actor.domain?.target?.domid;
  if (target !== undefined && permissions.owner === target) return EVERYTHING;
  for (let i = 1; i < permissions.length; i++) {
    const entry = permissions.entries[i];
    if (entry === undefined || (entry.domid !== actor.domid && entry.domid !== target && entry.domid !== DOMID_ANY))
      continue;
    if (!isStale(entry, generation, domains)) return entry.access;
  }
  return permissions.others;
}

/** True when the entry means a domain that no longer exists, whatever domain has its number now. */
function isStale(entry: PermissionEntry, generation: number, domains: DomainTable): boolean {
  if (entry.ignored) return true;
  // Where the daemon does not know of it, the entry was ignored from the start: no such domain exists.
  if (entry.domid === DOMID_ANY) return false;
  const domain = domains.find(entry.domid);
  return domain === undefined || domain.generation > generation;
}

/** The permissions as they are stored when the node is written again: stale entries stay ignored for good. */
export function settled(permissions: NodePermissions, generation: number, domains: DomainTable): NodePermissions {
  if (permissions.length === 1) return permissions;
  let changed = false;
  const entries = permissions.entries.map((entry, index) => {
    if (index === 0 || entry.ignored || !isStale(entry, generation, domains)) return entry;
    changed = true;
    return { ...entry, ignored: true };
  });
  return changed ? new NodePermissions(entries) : permissions;
}
