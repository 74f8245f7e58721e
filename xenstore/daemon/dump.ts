/**
 * The whole tree as JSON-able data and back, exact: binary values, permissions, order of children. Knows no connection.
 */
import { XenstoreError } from '../errors.js';
import type { SpecialName, StoreCore } from './core.js';
import { NodePermissions, PRIVATE_TO_DOM0, parseEntries } from './node-permissions.js';
import { childText, isLegalPath, Path } from './paths.js';
import { bury, StoreNode } from './tree.js';

export interface NodeDump {
  readonly path: string;
  /** The value where it is printable ASCII, … */
  readonly value?: string;
  /** … its bytes where it is not. */
  readonly base64?: string;
  readonly permissions: readonly string[];
  /** Indexes of permissions that mean a domain which no longer exists. */
  readonly ignored?: readonly number[];
}

export interface TreeDump {
  readonly version: 1;
  /** Each node after its parent, children in the order of their creation. */
  readonly nodes: readonly NodeDump[];
  readonly special: Readonly<Record<SpecialName, readonly string[]>>;
}

const PRINTABLE = /^[\x20-\x7e]*$/;

export function dumpTree(core: StoreCore): TreeDump {
  const nodes: NodeDump[] = [];
  const visit = (path: string, node: StoreNode): void => {
    nodes.push(dumpNode(path, node));
    if (node.children !== undefined) for (const [name, child] of node.children) visit(childText(path, name), child);
  };
  visit('/', core.tree.root);
  return {
    version: 1,
    nodes,
    special: {
      '@introduceDomain': texts(core.special['@introduceDomain']),
      '@releaseDomain': texts(core.special['@releaseDomain']),
    },
  };
}

function texts(permissions: NodePermissions): string[] {
  return permissions.toWire().split('\0').slice(0, -1);
}

function dumpNode(path: string, node: StoreNode): NodeDump {
  const { permissions, value } = node;
  const ignored = permissions.entries.flatMap((entry, index) => (entry.ignored ? [index] : []));
  return {
    path,
    ...(PRINTABLE.test(value) ? { value } : { base64: Buffer.from(value, 'latin1').toString('base64') }),
    permissions: texts(permissions),
    ...(ignored.length > 0 ? { ignored } : {}),
  };
}

/** Replaces the tree; nobody is told. Transactions that touched the old one will not commit. Throws EINVAL. */
export function loadTree(core: StoreCore, dump: TreeDump): void {
  const root = rebuild(core, dump);
  bury(core.tree.root, () => {});
  core.tree.root = root;
  for (const name of ['@introduceDomain', '@releaseDomain'] as const) {
    core.special[name] = permissionsOf(name, dump.special[name], []);
  }
  for (const domain of core.domains.all()) domain.nodes = 0;
  const visit = (node: StoreNode): void => {
    core.domains.adopt(node.permissions.owner, 0).nodes++;
    if (node.children !== undefined) for (const child of node.children.values()) visit(child);
  };
  visit(root);
}

function rebuild(core: StoreCore, dump: TreeDump): StoreNode {
  const made = new Map<string, StoreNode>();
  for (const entry of dump.nodes) {
    if (!isLegalPath(entry.path, Number.POSITIVE_INFINITY)) throw unusable(entry.path, 'the path is not legal');
    if (made.has(entry.path)) throw unusable(entry.path, 'it appears twice');
    const path = new Path(entry.path);
    const node = new StoreNode(undefined, permissionsOf(entry.path, entry.permissions, entry.ignored ?? []));
    node.value =
      entry.base64 === undefined ? (entry.value ?? '') : Buffer.from(entry.base64, 'base64').toString('latin1');
    node.generation = ++core.tree.generation;
    if (!path.isRoot) {
      const parent = made.get(path.parentText);
      if (parent === undefined) throw unusable(entry.path, 'its parent does not come before it');
      core.tree.attach(parent, path.name, node);
    }
    made.set(entry.path, node);
  }
  const root = made.get('/');
  if (root === undefined) throw unusable('/', 'it is missing');
  return root;
}

function permissionsOf(path: string, wire: readonly string[], ignored: readonly number[]): NodePermissions {
  const entries = parseEntries(wire);
  if (entries === undefined || entries.length === 0) throw unusable(path, `its permissions are '${wire.join(',')}'`);
  if (entries.length === 1 && wire[0] === 'n0') return PRIVATE_TO_DOM0;
  return new NodePermissions(entries.map((entry, i) => (ignored.includes(i) ? { ...entry, ignored: true } : entry)));
}

function unusable(path: string, reason: string): XenstoreError {
  return new XenstoreError('EINVAL', `xenstore dump is unusable at '${path.slice(0, 80)}': ${reason}`, { path });
}
