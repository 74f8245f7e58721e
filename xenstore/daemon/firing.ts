/**
 * Which watchers hear of a change. Chooses among the matching watches by permission; changes nothing else.
 * Source: xen:tools/xenstore/xenstored_watch.c (fire_watches, watch_permitted).
 */
import type { Connection } from './connection.js';
import type { SpecialName, StoreCore } from './core.js';
import { type NodePermissions, READ } from './node-permissions.js';
import type { Path } from './paths.js';
import { childText } from './paths.js';
import { rightsOf } from './permission-check.js';
import type { Transaction } from './transactions.js';
import type { StoreNode } from './tree.js';
import type { Watch, WatchNode } from './watches.js';

/** Permissions with the generation they were stored at. */
export interface Guard {
  readonly permissions: NodePermissions;
  readonly generation: number;
}

/**
 * Fires for a changed node. A watcher must be able to read the node, its parent, or have been able to read it `before`
 * its permissions changed.
 */
export function fireForNode(core: StoreCore, path: Path, node: Guard, parent: Guard, before?: Guard): void {
  const watches = core.watches.matching(path, false);
  if (watches.length > 0) {
    fire(core, watches, path.text, (watcher) => mayHear(core, watcher, before, node, parent));
  }
}

function mayHear(
  core: StoreCore,
  watcher: Connection,
  before: Guard | undefined,
  node: Guard | undefined,
  parent: Guard | undefined,
): boolean {
  if (before !== undefined && canRead(core, watcher, before)) return true;
  if (node === undefined) return false;
  return canRead(core, watcher, node) || (parent !== undefined && canRead(core, watcher, parent));
}

function canRead(core: StoreCore, watcher: Connection, guard: Guard): boolean {
  return (rightsOf(watcher, guard.permissions, guard.generation, core.domains) & READ) !== 0;
}

function fire(
  core: StoreCore,
  watches: readonly Watch[],
  changed: string,
  mayWatch: (watcher: Connection) => boolean,
): void {
  const firing = ++core.firing;
  for (const watch of watches) {
    const { connection } = watch;
    if (connection.firing !== firing) {
      connection.firing = firing;
      connection.firingAllowed = mayWatch(connection);
    }
    if (connection.firingAllowed) core.event(watch, changed, core.asked);
  }
}

/** Watches with a depth are told which domain it is (Xen 4.22). */
export function fireSpecial(core: StoreCore, name: SpecialName, domid: number): void {
  const guard = { permissions: core.special[name], generation: Number.POSITIVE_INFINITY };
  const mayWatch = (watcher: Connection) => canRead(core, watcher, guard);
  const watches = core.watches.special(name);
  const isPlain = ({ depth }: Watch) => depth === undefined;
  fire(core, watches.every(isPlain) ? watches : watches.filter(isPlain), name, mayWatch);
  if (!core.rules.features) return;
  const one = `${name}/${domid}`;
  const detailed = watches.filter(({ depth }) => depth !== undefined && depth > 0);
  fire(core, [...detailed, ...core.watches.special(one)], one, mayWatch);
}

/** The permissions of a special name changed, as those of a node do (Xen 4.22); `before` are the old ones. */
export function fireForSpecialPermissions(core: StoreCore, name: SpecialName, before: NodePermissions): void {
  const generation = Number.POSITIVE_INFINITY;
  const guards = [before, core.special[name]].map((permissions) => ({ permissions, generation }));
  fire(core, core.watches.special(name), name, (watcher) => guards.some((guard) => canRead(core, watcher, guard)));
}

/** Fires for a subtree that is about to be removed: watches exactly on each node, and all of those above the top. */
export function fireForRemoval(core: StoreCore, path: Path, node: StoreNode): void {
  const parent = node.parent ?? node;
  const index = core.watches.below(path);
  if (index !== undefined) fireBelow(core, path.text, node, index);
  fireForNode(core, path, node, parent);
}

/** Visits only what somebody watches: a subtree may have a hundred thousand nodes. */
function fireBelow(core: StoreCore, path: string, node: StoreNode, index: WatchNode): void {
  if (index.children === undefined || node.children === undefined) return;
  for (const [name, child] of node.children) {
    const watched = index.children.get(name);
    if (watched === undefined) continue;
    const childPath = childText(path, name);
    fireBelow(core, childPath, child, watched);
    if (watched.watches.length > 0) {
      fire(core, watched.watches, childPath, (watcher) => mayHear(core, watcher, undefined, child, node));
    }
  }
}

/**
 * Fires for a transaction that was applied, in the order in which it first touched each node. A watcher's rights are
 * judged by what is in effect at that node's turn: the daemon writes the nodes one by one and fires in between.
 */
export function fireForTransaction(core: StoreCore, transaction: Transaction): void {
  for (const node of transaction.nodes.values()) {
    if (!node.modified) continue;
    node.committed = true;
    if (node.fire === 'no') continue;
    const watches = core.watches.matching(node.path, node.fire === 'exact');
    if (watches.length === 0) continue;
    const before =
      node.originalPermissions === undefined
        ? undefined
        : { permissions: node.originalPermissions, generation: Number.POSITIVE_INFINITY };
    const now = guardWhileCommitting(core, transaction, node.path.text);
    const parent = now === undefined ? undefined : guardWhileCommitting(core, transaction, node.path.parentText);
    fire(core, watches, node.path.text, (watcher) => mayHear(core, watcher, before, now, parent));
  }
}

function guardWhileCommitting(core: StoreCore, transaction: Transaction, path: string): Guard | undefined {
  const node = transaction.nodes.get(path);
  if (node === undefined || !node.modified) {
    const known = core.paths.get(path);
    return known === undefined ? undefined : core.tree.find(known);
  }
  const permissions = node.committed ? (node.present ? node.permissions : undefined) : node.originalPermissions;
  return permissions === undefined ? undefined : { permissions, generation: Number.POSITIVE_INFINITY };
}
