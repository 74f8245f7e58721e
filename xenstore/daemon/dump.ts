/**
 * The whole tree as JSON-able data and back, exact: binary values, permissions, order of children. Knows no connection.
 */
import { XenstoreError } from '../errors.js';
import type { SpecialName, StoreCore } from './core.js';
import { charge, eachRecord } from './memory.js';
import { NodePermissions, PRIVATE_TO_DOM0, parseEntries } from './node-permissions.js';
import { OxNode } from './oxenstored/store.js';
import { childText, isLegalPath, Path } from './paths.js';
import { DOMID_ANY, settled } from './permission-check.js';
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
  const { oxenstored } = core;
  const visit = (path: string, node: StoreNode | OxNode): void => {
    nodes.push(dumpNode(core, path, node));
    if (node.children === undefined) return;
    for (const [name, child] of node.children) if (!isBareSpecial(name, child)) visit(childText(path, name), child);
  };
  visit('/', oxenstored?.store.root ?? core.tree.root);
  const special = (name: SpecialName) => texts(oxenstored?.specialPermissions(name) ?? core.special[name]);
  return {
    version: 1,
    nodes,
    special: { '@introduceDomain': special('@introduceDomain'), '@releaseDomain': special('@releaseDomain') },
  };
}

function texts(permissions: NodePermissions): string[] {
  return permissions.toWire().split('\0').slice(0, -1);
}

/** oxenstored has nodes of these names; the permissions, which are all that matters, stand elsewhere. */
function isBareSpecial(name: string, node: StoreNode | OxNode): boolean {
  const isSpecial = name === '@introduceDomain' || name === '@releaseDomain';
  return isSpecial && node.value === '' && node.children === undefined;
}

function dumpNode(core: StoreCore, path: string, node: StoreNode | OxNode): NodeDump {
  const { value } = node;
  // A loaded tree has no history: what is stale by age now must say so.
  const permissions =
    node instanceof StoreNode ? settled(node.permissions, node.generation, core.domains) : node.permissions;
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
  if (core.oxenstored !== undefined) {
    core.oxenstored.load(oxNodeOf(root), {
      '@introduceDomain': permissionsOf('@introduceDomain', dump.special['@introduceDomain'], []),
      '@releaseDomain': permissionsOf('@releaseDomain', dump.special['@releaseDomain'], []),
    });
    return;
  }
  eachRecord(core, core.tree.root, (owner, bytes) => charge(core, owner, -bytes));
  bury(core.tree.root, 0, () => {});
  core.tree.root = root;
  for (const name of ['@introduceDomain', '@releaseDomain'] as const) {
    core.special[name] = permissionsOf(name, dump.special[name], []);
  }
  for (const domain of core.domains.all()) domain.nodes = 0;
  const visit = (node: StoreNode): void => {
    core.domains.adopt(node.permissions.owner, 0).nodes++;
    // Who is named and not ignored exists, be it introduced only later.
    for (const { domid, ignored } of node.permissions.entries) {
      if (!ignored && domid !== DOMID_ANY) core.domains.adopt(domid, 0);
    }
    if (node.children !== undefined) for (const child of node.children.values()) visit(child);
  };
  visit(root);
  eachRecord(core, root, (owner, bytes) => charge(core, owner, bytes));
}

/** Entries that mean nobody are left out: oxenstored keeps none. */
function oxNodeOf(node: StoreNode): OxNode {
  const kept = node.permissions.entries.filter(({ ignored }, index) => index === 0 || !ignored);
  const made = new OxNode(0, new NodePermissions(kept), node.value);
  if (node.children !== undefined) {
    made.children = new Map();
    for (const [name, child] of node.children) made.children.set(name, oxNodeOf(child));
  }
  return made;
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

/** Checks that data from outside has the shape of a dump; what its nodes say is checked when it is loaded. Throws EINVAL. */
export function parseTreeDump(data: unknown): TreeDump {
  if (!isRecord(data)) throw unusable('/', 'it is no object');
  if (data['version'] !== 1) throw unusable('/', `its version is ${JSON.stringify(data['version'])}, not 1`);
  const { nodes, special } = data;
  if (!Array.isArray(nodes)) throw unusable('/', 'it has no list of nodes');
  for (const node of nodes) checkNode(node);
  for (const name of ['@introduceDomain', '@releaseDomain']) {
    if (!isRecord(special) || !isStrings(special[name])) throw unusable(name, 'its permissions are missing');
  }
  return data as unknown as TreeDump;
}

function checkNode(node: unknown): void {
  if (!isRecord(node) || typeof node['path'] !== 'string') throw unusable('/', 'one of its nodes has no path');
  const { path, value, base64, permissions, ignored } = node;
  const isText = value === undefined || (typeof value === 'string' && PRINTABLE.test(value));
  if (!isText) throw unusable(path as string, 'its value is not printable ASCII: such values are written as base64');
  if (base64 !== undefined && (value !== undefined || !isBase64(base64)))
    throw unusable(path as string, 'its base64 value is malformed, or it has two values');
  if (!isStrings(permissions)) throw unusable(path as string, 'its permissions are no list of strings');
  if (ignored !== undefined && !(Array.isArray(ignored) && ignored.every(Number.isInteger)))
    throw unusable(path as string, 'its ignored permissions are no list of numbers');
}

function isRecord(data: unknown): data is Record<string, unknown> {
  return typeof data === 'object' && data !== null && !Array.isArray(data);
}

function isStrings(data: unknown): data is string[] {
  return Array.isArray(data) && data.every((item) => typeof item === 'string');
}

function isBase64(data: unknown): boolean {
  return typeof data === 'string' && Buffer.from(data, 'base64').toString('base64') === data;
}

function unusable(path: string, reason: string): XenstoreError {
  return new XenstoreError('EINVAL', `xenstore dump is unusable at '${path.slice(0, 80)}': ${reason}`, { path });
}
