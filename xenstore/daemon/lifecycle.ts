/**
 * Domains come and go: introducing, releasing, shutting down, and what they leave behind. Knows no message format.
 * Source: xen:tools/xenstore/xenstored_domain.c (introduce_domain, destroy_domain, domain_tree_remove, check_domains).
 */

import type { Connection } from './connection.js';
import type { StoreCore } from './core.js';
import type { Domain } from './domains.js';
import { fireSpecial } from './firing.js';
import { charge } from './memory.js';
import { NodePermissions } from './node-permissions.js';
import { childText } from './paths.js';
import { PERMISSION_BYTES } from './quota.js';
import { removeFromTree } from './removal.js';
import { traceConnection } from './trace.js';
import type { StoreNode } from './tree.js';
import { watchBytes } from './watches.js';

/** Drops all watches of a connection. */
export function dropWatches(core: StoreCore, connection: Connection): void {
  const { domain } = connection;
  for (const watch of connection.watches.values()) {
    core.watches.remove(watch);
    if (domain !== undefined) domain.memory -= watchBytes(watch.path, watch.token);
  }
  if (domain !== undefined) domain.watches -= connection.watches.size;
  connection.watches.clear();
}

export function dropTransactions(connection: Connection): void {
  const { domain } = connection;
  if (domain !== undefined) {
    domain.transactions -= connection.transactions.size;
    for (const { bytes } of connection.transactions.values()) domain.memory -= bytes;
  }
  connection.transactions.clear();
}

/** Ends a connection from the daemon's side or the client's. */
export function dropConnection(core: StoreCore, connection: Connection): void {
  if (connection.closed) return;
  connection.closed = true;
  if (core.tracer !== undefined) traceConnection(core.tracer, 'DISCONNECT', connection);
  dropWatches(core, connection);
  dropTransactions(connection);
  connection.domain?.connections.delete(connection);
  core.connections.delete(connection);
}

/** Makes the domain known and its connections fresh. Returns undefined if the hypervisor has no such domain. */
export function introduceDomain(core: StoreCore, domid: number): Domain | undefined {
  const domain = core.domains.ensure(domid, core.tree.generation);
  if (domain === undefined) return undefined;
  if (!domain.introduced) {
    domain.introduced = true;
    domain.sequence = ++core.sequence;
    domain.shutdown = false;
    fireSpecial(core, '@introduceDomain', domid);
  }
  for (const connection of domain.connections) {
    dropWatches(core, connection);
    dropTransactions(connection);
    core.discardOutput(connection);
  }
  return domain;
}

/** Takes the domain's connections and nodes away; tells watchers if it had been introduced. */
export function releaseDomain(core: StoreCore, domain: Domain): void {
  for (const connection of [...domain.connections]) {
    dropConnection(core, connection);
    core.discardOutput(connection);
    core.closeAfterFlush(connection);
  }
  removeOwnedNodes(core, domain);
  if (core.rules.features) forgetBelow(core, domain.domid, core.tree.root);
  core.domains.forget(domain);
  core.domains.releaseImplicitly(domain.domid);
  for (const name of ['@introduceDomain', '@releaseDomain'] as const) {
    core.special[name] = withoutDomain(core.special[name], domain.domid);
  }
  if (domain.introduced) fireSpecial(core, '@releaseDomain', domain.domid);
}

/** The domain has shut down but still exists; told once until it is resumed. */
export function shutdownDomain(core: StoreCore, domain: Domain): void {
  if (!domain.introduced || domain.shutdown) return;
  domain.shutdown = true;
  fireSpecial(core, '@releaseDomain', domain.domid);
}

function withoutDomain(permissions: NodePermissions, domid: number): NodePermissions {
  if (!permissions.entries.some((entry) => entry.domid === domid)) return permissions;
  const [owner, ...others] = permissions.entries;
  return new NodePermissions([
    { access: owner?.access ?? 0, ignored: false, domid: permissions.owner === domid ? 0 : permissions.owner },
    ...others.filter((entry) => entry.domid !== domid),
  ]);
}

/** Since 4.22 permissions do not name domains that are gone. */
function forgetBelow(core: StoreCore, domid: number, node: StoreNode): void {
  const kept = withoutDomain(node.permissions, domid);
  const fewer = node.permissions.length - kept.length;
  if (fewer > 0) {
    node.permissions = kept;
    charge(core, kept.owner, -fewer * PERMISSION_BYTES);
  }
  if (node.children !== undefined) for (const child of node.children.values()) forgetBelow(core, domid, child);
}

/** A successor with the same number must not inherit them. */
function removeOwnedNodes(core: StoreCore, domain: Domain): void {
  if (domain.nodes <= 0) return;
  const { root } = core.tree;
  // The C daemon would delete the root, too, and be broken from then on.
  if (root.permissions.owner === domain.domid) {
    root.permissions = root.permissions.ownedBy(0);
    domain.nodes--;
  }
  removeOwnedBelow(core, domain, '/', root);
}

function removeOwnedBelow(core: StoreCore, domain: Domain, path: string, node: StoreNode): void {
  if (node.children === undefined) return;
  for (const [name, child] of node.children) {
    if (domain.nodes <= 0) return;
    const text = childText(path, name);
    if (child.permissions.owner !== domain.domid) {
      removeOwnedBelow(core, domain, text, child);
      continue;
    }
    const childPath = core.paths.get(text);
    if (childPath !== undefined) removeFromTree(core, childPath, child);
  }
}
