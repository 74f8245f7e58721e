/**
 * Creating nodes, in the tree or in a transaction, with quotas and generation numbers exactly as the C daemon counts
 * them. The caller has checked permissions.
 * Source: xen:tools/xenstore/xenstored_core.c (construct_node, create_node), xenstored_transaction.c (access_node).
 */
import { nearestInTransaction, touch } from './access.js';
import { countPending, isTooLarge, recordHolder, rewritten, store } from './changes.js';
import type { StoreCore } from './core.js';
import { fireForNode } from './firing.js';
import type { DaemonError, LikenessRules } from './likeness.js';
import { charge, copyPrefixBytes, lacksRoom } from './memory.js';
import type { NodePermissions } from './node-permissions.js';
import { childText, type Path } from './paths.js';
import { settled } from './permission-check.js';
import { nodeBytes } from './quota.js';
import type { Request } from './request.js';
import { type Transaction, TransactionNode } from './transactions.js';
import { type NodeView, StoreNode } from './tree.js';

/** Nodes to be made: `names` from the highest that is missing down to `path` itself, which gets the value. */
interface Plan {
  readonly path: Path;
  readonly names: readonly string[];
  readonly permissions: NodePermissions;
  readonly value: string;
  /** The nearest existing ancestor. */
  readonly parent: NodeView;
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

/** Sizes of the records of the new nodes, from the deepest up: those of all but the value. */
function* newRecords(
  rules: LikenessRules,
  { path, names, permissions, value }: Plan,
): IterableIterator<{ childBytes: number; bytes: number }> {
  let pathBytes = path.text.length;
  let childBytes = 0;
  for (let i = names.length - 1; i >= 0; i--) {
    const valueBytes = childBytes === 0 ? value.length : 0;
    yield { childBytes, bytes: nodeBytes(rules, permissions.length, valueBytes, childBytes) + pathBytes };
    childBytes = (names[i] as string).length + 1;
    pathBytes -= childBytes;
  }
}

/**
 * Why the new nodes may not be made, if so; nodes are written from the deepest up, the existing parent last.
 * Generations are used up by each write, even one that is refused.
 */
function creationProblem(
  core: StoreCore,
  request: Request,
  plan: Plan,
): { error: DaemonError; written: number } | undefined {
  const { connection, transaction } = request;
  const { names, permissions, value, parent } = plan;
  const isDom0s = permissions.owner === 0 && parent.permissions.owner === 0;
  if (connection.privileged && (isDom0s || transaction !== undefined)) return undefined;
  const error = core.rules.quotaExceeded;
  const holder = recordHolder(request, permissions.owner);
  const prefixBytes = transaction === undefined ? 0 : copyPrefixBytes(transaction);
  let [written, total] = [0, 0];
  for (const { childBytes, bytes } of newRecords(core.rules, plan)) {
    if (hasTooManyNodes(core, request, written)) return { error, written };
    core.tree.generation++;
    if (isTooLarge(core, request, permissions.length, written === 0 ? value.length : 0, childBytes)) {
      return { error, written };
    }
    total += bytes + prefixBytes;
    if (lacksRoom(core, connection, holder, total)) return { error: 'EIO', written };
    written++;
  }
  core.tree.generation++;
  const more = (names[0] ?? '').length + 1;
  if (isTooLarge(core, request, parent.permissions.length, parent.value.length, parent.childBytes + more)) {
    return { error, written };
  }
  const parentHolder = recordHolder(request, parent.permissions.owner);
  const pending = parentHolder === holder ? total : 0;
  if (lacksRoom(core, connection, parentHolder, pending + more)) return { error: 'EIO', written };
  core.tree.generation -= names.length + 1;
  return undefined;
}

function hasTooManyNodes(core: StoreCore, { connection, transaction }: Request, written: number): boolean {
  if (connection.privileged) return false;
  // Since 4.22 nodes count when the whole request is done.
  const isCounted = transaction === undefined && !core.rules.strictQuotas;
  const nodes = (connection.domain?.nodes ?? 0) + (isCounted ? written : 0);
  return exceeds(core, nodes, core.quota(connection, 'nodes'));
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
  const plan: Plan = { path, names, permissions, value, parent };
  const problem = creationProblem(core, request, plan);
  if (problem !== undefined) return problem.error;
  const owner = core.domains.ensure(permissions.owner, tree.generation);
  if (owner === undefined) return 'ENOMEM';
  chargeFor(core, plan);
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

function chargeFor(core: StoreCore, plan: Plan): void {
  const { names, permissions, parent } = plan;
  if (permissions.owner !== 0)
    for (const { bytes } of newRecords(core.rules, plan)) charge(core, permissions.owner, bytes);
  charge(core, parent.permissions.owner, (names[0] ?? '').length + 1);
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
  const problem = creationProblem(core, request, { path, names, permissions, value, parent });
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
  const made: TransactionNode[] = [];
  let at = parent;
  for (const name of names) {
    const path = core.paths.get(childText(at.path.text, name));
    const node = path === undefined ? 'EINVAL' : touch(core, request, transaction, path);
    if (typeof node === 'string') return node;
    node.create(permissions);
    made.unshift(node);
    countPending(core, transaction, permissions.owner, 1);
    at.addChild(name);
    at = node;
  }
  at.value = value;
  at.fire = 'below';
  for (const node of [...made, parent]) store(core, request, node, ++core.tree.generation);
  return undefined;
}
