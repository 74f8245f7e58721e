/**
 * Removing nodes with all that is below them, in the tree or in a transaction, with the generation numbers of the C
 * daemon. The caller has checked permissions.
 * Source: xen:tools/xenstore/xenstored_core.c (rm_node, delete_node).
 */
import { readNode, touch } from './access.js';
import { rewritten, store } from './changes.js';
import type { StoreCore } from './core.js';
import { fireForRemoval } from './firing.js';
import type { DaemonError } from './likeness.js';
import { charge, recordBytes } from './memory.js';
import { childText, type Path } from './paths.js';
import type { Request } from './request.js';
import { type Transaction, TransactionNode } from './transactions.js';
import { bury, type NodeView, StoreNode } from './tree.js';

/** Removes an existing node, not the root, with all that is below it. */
export function removeNode(core: StoreCore, request: Request, path: Path, node: NodeView): DaemonError | undefined {
  if (node instanceof StoreNode) {
    removeFromTree(core, path, node);
    return undefined;
  }
  return request.transaction === undefined ? 'EIO' : removeInTransaction(core, request, request.transaction, path);
}

export function removeFromTree(core: StoreCore, path: Path, node: StoreNode): void {
  const { parent } = node;
  if (parent === undefined) return;
  fireForRemoval(core, path, node);
  parent.detach(path.name);
  charge(core, parent.permissions.owner, -(path.name.length + 1));
  const removed = bury(node, path.text.length, (gone, pathBytes) => {
    const { owner } = gone.permissions;
    const domain = core.domains.find(owner);
    if (domain === undefined) return;
    domain.nodes--;
    if (owner !== 0) domain.memory -= recordBytes(core, gone, pathBytes);
  });
  // Each node is deleted, and its parent's list of children written, one after the other.
  core.tree.generation += 2 * removed;
  rewritten(core, parent);
}

function removeInTransaction(
  core: StoreCore,
  request: Request,
  transaction: Transaction,
  path: Path,
): DaemonError | undefined {
  const parentPath = core.paths.get(path.parentText);
  const parent = parentPath === undefined ? undefined : readNode(core, request, parentPath);
  if (typeof parent === 'string') return parent;
  if (!(parent instanceof TransactionNode)) return 'EINVAL';
  const problem = removeBelow(core, request, transaction, path, true);
  if (problem !== undefined) return problem;
  if (!parent.removeChild(path.name)) return 'EIO';
  store(core, request, parent, ++core.tree.generation);
  return undefined;
}

/** Leaves first. A child that vanished outside since its parent was read ends it: the commit would fail anyway. */
function removeBelow(
  core: StoreCore,
  request: Request,
  transaction: Transaction,
  path: Path,
  isTop: boolean,
): DaemonError | undefined {
  const node = touch(core, request, transaction, path);
  if (typeof node === 'string' || !node.present) return 'EIO';
  for (const name of [...node.childNames()]) {
    const child = core.paths.get(childText(path.text, name));
    const problem = child === undefined ? 'EIO' : removeBelow(core, request, transaction, child, false);
    if (problem !== undefined) return problem;
    node.removeChild(name);
    store(core, request, node, ++core.tree.generation);
  }
  node.present = false;
  store(core, request, node, ++core.tree.generation);
  transaction.count(node.permissions.owner, -1);
  if (isTop) node.fire = 'below';
  else if (node.fire === 'no') node.fire = 'exact';
  return undefined;
}
