/**
 * How a request sees nodes: the tree itself or its transaction's copy, after the permission check, with the errors that
 * keep secrets secret.
 * Source: xen:tools/xenstore/xenstored_core.c (read_node, get_node, errno_from_parents).
 */
import type { StoreCore } from './core.js';
import type { DaemonError } from './likeness.js';
import { chargeCopy, recordBytes } from './memory.js';
import type { Path } from './paths.js';
import { rightsOf, settled } from './permission-check.js';
import type { Request } from './request.js';
import { type Transaction, TransactionNode } from './transactions.js';
import type { NodeView } from './tree.js';

/** The node whatever its permissions; in a transaction the access is recorded. */
export function readNode(core: StoreCore, request: Request, path: Path): NodeView | DaemonError | undefined {
  const { transaction } = request;
  if (transaction === undefined) return core.tree.find(path);
  const node = touch(core, request, transaction, path);
  return typeof node === 'string' || node.present ? node : undefined;
}

/** The transaction's copy of a node, made at the first access; absent nodes have one, too. */
export function touch(
  core: StoreCore,
  request: Request,
  transaction: Transaction,
  path: Path,
): TransactionNode | DaemonError {
  const known = transaction.nodes.get(path.text);
  if (known !== undefined) return known;
  const max = core.quota(request.connection, 'transaction-nodes') - (core.rules.strictQuotas ? 1 : 0);
  if (!request.connection.privileged && transaction.nodes.size >= max) {
    transaction.failed = true;
    return core.rules.quotaExceeded;
  }
  request.connection.domain?.noteMaximum('transaction-nodes', transaction.nodes.size + 1);
  const original = core.tree.find(path);
  const permissions = original ?? core.tree.root;
  const node = new TransactionNode(
    path,
    original,
    settled(permissions.permissions, permissions.generation, core.domains),
  );
  transaction.nodes.set(path.text, node);
  const { domain } = request.connection;
  if (domain !== undefined) {
    chargeCopy(core, domain, transaction, node);
    if (node.present) domain.noteMaximum('node-size', recordBytes(core, node, 0));
  }
  return node;
}

/** The node if the requester has all of `need` on it. */
export function getNode(core: StoreCore, request: Request, path: Path, need: number): NodeView | DaemonError {
  const node = readNode(core, request, path);
  if (typeof node === 'string') return node;
  if (node !== undefined && (request.connection.privileged || holds(core, request, node, need))) return node;
  return errorFromParents(core, request, path, node === undefined ? 'ENOENT' : 'EACCES', need);
}

function holds(core: StoreCore, request: Request, node: NodeView, need: number): boolean {
  return (rightsOf(request.connection, node.permissions, node.generation, core.domains) & need) === need;
}

/** Only those who have a right on the nearest existing ancestor are told more than EACCES. */
function errorFromParents(
  core: StoreCore,
  request: Request,
  path: Path,
  error: DaemonError,
  need: number,
): DaemonError {
  if (request.transaction === undefined && request.connection.privileged) return error;
  const ancestor =
    request.transaction === undefined ? core.tree.nearest(path) : nearestInTransaction(core, request, path);
  if (typeof ancestor === 'string') return ancestor;
  const rights = rightsOf(request.connection, ancestor.permissions, ancestor.generation, core.domains);
  return (rights & need) !== 0 ? error : 'EACCES';
}

/** The deepest proper ancestor that the transaction sees; each access on the way up is recorded. */
export function nearestInTransaction(core: StoreCore, request: Request, path: Path): NodeView | DaemonError {
  for (let at = path; ; ) {
    const parent = core.paths.get(at.parentText);
    const node = parent === undefined ? undefined : readNode(core, request, parent);
    if (node !== undefined) return node;
    if (parent === undefined || parent.isRoot) return core.tree.root;
    at = parent;
  }
}
