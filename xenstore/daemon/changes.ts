/**
 * Writing existing nodes, in the tree or in a transaction, with quotas and generation numbers exactly as the C daemon
 * counts them. The caller has checked permissions.
 * Source: xen:tools/xenstore/xenstored_core.c (write_node), xenstored_transaction.c (access_node).
 */
import type { StoreCore } from './core.js';
import { fireForNode } from './firing.js';
import type { DaemonError } from './likeness.js';
import { charge, chargeCopy, lacksRoom, recordBytes } from './memory.js';
import type { NodePermissions } from './node-permissions.js';
import type { Path } from './paths.js';
import { settled } from './permission-check.js';
import { nodeBytes } from './quota.js';
import type { Request } from './request.js';
import { type Transaction, TransactionNode } from './transactions.js';
import { type NodeView, StoreNode } from './tree.js';

/** Stores a new value in an existing node, which `node` is the requester's view of. */
export function writeValue(
  core: StoreCore,
  request: Request,
  path: Path,
  node: NodeView,
  value: string,
): DaemonError | undefined {
  const generation = ++core.tree.generation;
  if (isTooLarge(core, request, node.permissions.length, value.length, node.childBytes))
    return refused(request, node, core.rules.quotaExceeded);
  const owner = node.permissions.owner;
  const more = value.length - node.value.length;
  if (lacksRoom(core, request.connection, recordHolder(request, owner), more)) return refused(request, node, 'ENOMEM');
  if (node instanceof StoreNode) {
    charge(core, owner, more);
    node.value = value;
    rewritten(core, node);
    fireForNode(core, path, node, node.parent ?? node);
  } else if (node instanceof TransactionNode) {
    node.value = value;
    store(core, request, node, generation);
    node.fire = 'below';
  }
  return undefined;
}

/** Replaces the permissions of an existing node. */
export function writePermissions(
  core: StoreCore,
  request: Request,
  path: Path,
  node: NodeView,
  permissions: NodePermissions,
): DaemonError | undefined {
  const generation = ++core.tree.generation;
  const before = { permissions: node.permissions, generation: node.generation };
  if (isTooLarge(core, request, permissions.length, node.value.length, node.childBytes))
    return refused(request, node, core.rules.quotaExceeded);
  const bytesNow = recordBytes(core, node, path.text.length);
  const bytes = nodeBytes(core.rules, permissions.length, node.value.length, node.childBytes) + path.text.length;
  const holder = recordHolder(request, permissions.owner);
  const freed = request.transaction !== undefined || permissions.owner === node.permissions.owner ? bytesNow : 0;
  if (lacksRoom(core, request.connection, holder, bytes - freed)) return refused(request, node, 'ENOMEM');
  if (node instanceof StoreNode) {
    charge(core, node.permissions.owner, -bytesNow);
    charge(core, permissions.owner, bytes);
    count(core, node.permissions.owner, -1);
    count(core, permissions.owner, 1);
    node.permissions = permissions;
    node.generation = generation;
    fireForNode(core, path, node, node.parent ?? node, before);
  } else if (node instanceof TransactionNode && request.transaction !== undefined) {
    countPending(core, request.transaction, node.permissions.owner, -1);
    countPending(core, request.transaction, permissions.owner, 1);
    node.permissions = permissions;
    store(core, request, node, generation);
    node.fire = 'below';
  }
  return undefined;
}

/** The transaction's copy of the node has been changed. */
export function store(core: StoreCore, request: Request, node: TransactionNode, generation: number): void {
  node.generation = generation;
  node.modified = true;
  const { domain } = request.connection;
  if (domain !== undefined && request.transaction !== undefined) chargeCopy(core, domain, request.transaction, node);
}

/** Whose memory the record takes: a transaction's copies are the requester's. */
export function recordHolder(request: Request, owner: number): number {
  return request.transaction === undefined ? owner : request.connection.domid;
}

export function isTooLarge(
  core: StoreCore,
  request: Request,
  permissionCount: number,
  valueBytes: number,
  childBytes: number,
): boolean {
  const { connection } = request;
  if (connection.privileged) return false;
  const bytes = nodeBytes(core.rules, permissionCount, valueBytes, childBytes);
  if (bytes >= core.quota(connection, 'node-size')) return true;
  connection.domain?.noteMaximum('node-size', bytes);
  return false;
}

/**
 * A write that was refused half way through a transaction cannot be taken back: the transaction fails. Of the errors
 * ENOMEM is ours: for want of room the C daemon answers whatever errno was left over.
 */
function refused(request: Request, node: NodeView, error: DaemonError): DaemonError {
  if (request.transaction !== undefined) {
    request.transaction.failed = true;
    if (node instanceof TransactionNode) node.modified = true;
  }
  return error;
}

/** A node more or less, once the transaction is committed; seen among the highest figures already (Xen 4.22). */
export function countPending(core: StoreCore, transaction: Transaction, domid: number, change: 1 | -1): void {
  transaction.count(domid, change);
  const domain = core.domains.find(domid);
  domain?.noteMaximum('nodes', domain.nodes + (transaction.nodeCounts.get(domid) ?? 0));
}

function count(core: StoreCore, domid: number, change: 1 | -1): void {
  const domain = core.domains.ensure(domid, core.tree.generation);
  if (domain !== undefined) domain.nodes += change;
}

/** The node was written: entries that were stale before stay so, although the node is young again. */
export function rewritten(core: StoreCore, node: StoreNode): void {
  if (node.permissions.length > 1) node.permissions = settled(node.permissions, node.generation, core.domains);
  node.generation = core.tree.generation;
}
