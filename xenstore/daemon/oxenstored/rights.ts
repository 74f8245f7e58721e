/**
 * Who may do what in oxenstored. Decides; changes nothing.
 * Source: xen:tools/ocaml/xenstored/perms.ml (lacks, check_owner, is_dom0).
 */
import type { NodePermissions } from '../node-permissions.js';

/** A connection's own domain and the one that SET_TARGET gave it. */
export interface Actor {
  readonly domid: number;
  readonly target: number | undefined;
}

/** A stub domain of dom0 is as mighty as dom0. */
export function isDom0({ domid, target }: Actor): boolean {
  return domid === 0 || target === 0;
}

export function isOwner(actor: Actor, permissions: NodePermissions): boolean {
  return isDom0(actor) || actor.domid === permissions.owner || actor.target === permissions.owner;
}

/** `need` is READ or WRITE. */
export function has(actor: Actor, need: number, permissions: NodePermissions): boolean {
  if (isOwner(actor, permissions)) return true;
  if ((accessOf(actor.domid, permissions) & need) !== 0) return true;
  return actor.target !== undefined && (accessOf(actor.target, permissions) & need) !== 0;
}

function accessOf(domid: number, permissions: NodePermissions): number {
  for (let i = 1; i < permissions.length; i++) {
    const entry = permissions.entries[i];
    if (entry?.domid === domid) return entry.access;
  }
  return permissions.others;
}

/** All that the permissions say of a domain is taken out; undefined when they are the same without. */
export function withoutDomain(permissions: NodePermissions, domid: number): readonly number[] | undefined {
  const kept = permissions.entries.flatMap((entry, i) => (i > 0 && entry.domid === domid ? [] : [i]));
  return kept.length === permissions.length ? undefined : kept;
}
