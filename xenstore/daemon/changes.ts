/**
 * Creating and writing nodes, in the tree or in a transaction, with quotas and generation numbers exactly as
 * the C daemon counts them. The caller has checked permissions.
 * Source: xen:tools/xenstore/xenstored_core.c (create_node, write_node), xenstored_transaction.c (access_node).
 */
import { nearestInTransaction, touch } from './access.js';
import type { StoreCore } from './core.js';
import { fireForNode } from './firing.js';
import type { DaemonError } from './likeness.js';
import type { NodePermissions } from './node-permissions.js';
import { childText, type Path } from './paths.js';
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
    return tooLarge(core, request, node);
  if (node instanceof StoreNode) {
    node.value = value;
    rewritten(core, node);
    fireForNode(core, path, node, node.parent ?? node);
  } else if (node instanceof TransactionNode) {
    node.value = value;
    store(node, generation);
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
    return tooLarge(core, request, node);
  if (node instanceof StoreNode) {
    count(core, node.permissions.owner, -1);
    count(core, permissions.owner, 1);
    node.permissions = permissions;
    node.generation = generation;
    fireForNode(core, path, node, node.parent ?? node, before);
  } else if (node instanceof TransactionNode && request.transaction !== undefined) {
    request.transaction.count(node.permissions.owner, -1);
    request.transaction.count(permissions.owner, 1);
    node.permissions = permissions;
    store(node, generation);
    node.fire = 'below';
  }
  return undefined;
}

export function store(node: TransactionNode, generation: number): void {
  node.generation = generation;
  node.modified = true;
}

function isTooLarge(
  core: StoreCore,
  request: Request,
  permissionCount: number,
  valueBytes: number,
  childBytes: number,
): boolean {
  return (
    !request.connection.privileged &&
    nodeBytes(permissionCount, valueBytes, childBytes) >= core.quota(request.connection, 'node-size')
  );
}

/** A write that was refused half way through a transaction cannot be taken back: the transaction fails. */
function tooLarge(core: StoreCore, request: Request, node: NodeView): DaemonError {
  if (request.transaction !== undefined) {
    request.transaction.failed = true;
    if (node instanceof TransactionNode) node.modified = true;
  }
  return core.rules.quotaExceeded;
}

function count(core: StoreCore, domid: number, change: 1 | -1): void {
  const domain = core.domains.ensure(domid, core.tree.generation);
  if (domain !== undefined) domain.nodes += change;
}

/** Makes the node and its missing ancestors, which are empty. */
export function createNode(core: StoreCore, request: Request, path: Path, value: string): DaemonError | undefined {
  return request.transaction === undefined
    ? createInTree(core, request, path, value)
    : createInTransaction(core, request, request.transaction, path, value);
}

function inherited(core: StoreCore, request: Request, parent: NodeView): NodePermissions {
  const permissions = settled(parent.permissions, parent.generation, core.domains);
  const { connection } = request;
  return connection.privileged ? permissions : permissions.ownedBy(connection.domid);
}

/**
 * Why the new nodes may not be made, if so; nodes are written from the deepest up, the existing parent last.
 * Generations are used up by each write, even one that is refused.
 */
function creationProblem(
  core: StoreCore,
  request: Request,
  permissions: NodePermissions,
  names: readonly string[],
  valueBytes: number,
  parent: NodeView,
): { error: DaemonError; written: number } | undefined {
  const { connection } = request;
  if (connection.privileged) return undefined;
  const error = core.rules.quotaExceeded;
  const committed = connection.domain?.nodes ?? 0;
  for (let written = 0; written < names.length; written++) {
    const nodes = request.transaction === undefined ? committed + written : committed;
    if (exceeds(core, nodes, core.quota(connection, 'nodes'))) return { error, written };
    core.tree.generation++;
    const childBytes = written === 0 ? 0 : (names[names.length - written] ?? '').length + 1;
    if (isTooLarge(core, request, permissions.length, written === 0 ? valueBytes : 0, childBytes)) {
      return { error, written };
    }
  }
  core.tree.generation++;
  const childBytes = parent.childBytes + (names[0] ?? '').length + 1;
  if (isTooLarge(core, request, parent.permissions.length, parent.value.length, childBytes)) {
    return { error, written: names.length };
  }
  core.tree.generation -= names.length + 1;
  return undefined;
}

/** True when one more would be too many. */
function exceeds(core: StoreCore, nodes: number, limit: number): boolean {
  return core.rules.strictQuotas ? nodes + 1 >= limit : nodes >= limit;
}

function createInTree(core: StoreCore, request: Request, path: Path, value: string): DaemonError | undefined {
  const { tree } = core;
  const parent = tree.nearest(path);
  const names = path.parts.slice(tree.nearestDepth);
  const permissions = inherited(core, request, parent);
  const problem = creationProblem(core, request, permissions, names, value.length, parent);
  if (problem !== undefined) return problem.error;
  const owner = core.domains.ensure(permissions.owner, tree.generation);
  if (owner === undefined) return 'ENOMEM';
  const first = tree.generation + 1;
  let at = parent;
  for (let i = 0; i < names.length; i++) {
    const node = new StoreNode(at, permissions);
    node.generation = first + (names.length - 1 - i);
    tree.attach(at, names[i] as string, node);
    at = node;
  }
  at.value = value;
  tree.generation = first + names.length;
  rewritten(core, parent);
  owner.nodes += names.length;
  path.node = at;
  fireForNode(core, path, at, at.parent ?? at);
  return undefined;
}

/** The node was written: entries that were stale before stay so, although the node is young again. */
export function rewritten(core: StoreCore, node: StoreNode): void {
  if (node.permissions.length > 1) node.permissions = settled(node.permissions, node.generation, core.domains);
  node.generation = core.tree.generation;
}

function createInTransaction(
  core: StoreCore,
  request: Request,
  transaction: Transaction,
  path: Path,
  value: string,
): DaemonError | undefined {
  const parent = nearestInTransaction(core, request, path);
  if (typeof parent === 'string') return parent;
  if (!(parent instanceof TransactionNode)) return 'EIO';
  const names = path.parts.slice(parent.path.parts.length);
  const permissions = inherited(core, request, parent);
  transaction.nodeCreated = true;
  const problem = creationProblem(core, request, permissions, names, value.length, parent);
  if (problem !== undefined) {
    // The node quota alone, found before anything was written, leaves the transaction usable.
    const nothingWritten =
      problem.written === 0 &&
      exceeds(core, request.connection.domain?.nodes ?? 0, core.quota(request.connection, 'nodes'));
    if (!nothingWritten) transaction.failed = true;
    return problem.error;
  }
  return plant(core, request, transaction, parent, names, permissions, value);
}

function plant(
  core: StoreCore,
  request: Request,
  transaction: Transaction,
  parent: TransactionNode,
  names: readonly string[],
  permissions: NodePermissions,
  value: string,
): DaemonError | undefined {
  const first = core.tree.generation + 1;
  let at = parent;
  for (let i = 0; i < names.length; i++) {
    const name = names[i] as string;
    const path = core.paths.get(childText(at.path.text, name), false);
    const node = path === undefined ? 'EINVAL' : touch(core, request, transaction, path);
    if (typeof node === 'string') return node;
    node.create(permissions);
    store(node, first + (names.length - 1 - i));
    transaction.count(permissions.owner, 1);
    at.addChild(name);
    at = node;
  }
  at.value = value;
  at.fire = 'below';
  core.tree.generation = first + names.length;
  store(parent, core.tree.generation);
  return undefined;
}
