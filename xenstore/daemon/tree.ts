/**
 * The nodes. Finds, attaches and detaches them; knows neither permissions nor watches nor who asks.
 */
import { flat } from './latin1.js';
import type { NodePermissions } from './node-permissions.js';
import { PRIVATE_TO_DOM0 } from './node-permissions.js';
import type { Path } from './paths.js';

/** What can be read of a node, inside or outside a transaction. */
export interface NodeView {
  /** Bytes as latin-1: the most compact form the runtime has, and exact. */
  readonly value: string;
  readonly permissions: NodePermissions;
  readonly generation: number;
  /** Length of `listing()`. */
  readonly childBytes: number;
  /** Child names, each followed by NUL. */
  listing(): string;
}

/** Bound of the table of names; when it is full it starts afresh. */
const MAX_NAMES = 8192;
/** Generation of a node that is no longer part of the tree. */
const REMOVED = -1;

/** The children of one node. Leaves, which are most nodes, have none of this. */
class ChildList {
  readonly byName: Map<string, StoreNode>;
  bytes: number;
  /** A transaction looks at it: copy before changing. */
  shared = false;
  listing: string | undefined;

  constructor(byName: Map<string, StoreNode>, bytes: number) {
    this.byName = byName;
    this.bytes = bytes;
  }
}

export type Children = ReadonlyMap<string, StoreNode>;

/** Few and small fields: a host may have a million of these. */
export class StoreNode implements NodeView {
  parent: StoreNode | undefined;
  value = '';
  permissions: NodePermissions;
  generation = 0;
  #list: ChildList | undefined;

  constructor(parent: StoreNode | undefined, permissions: NodePermissions) {
    this.parent = parent;
    this.permissions = permissions;
  }

  /** In the order of creation; undefined if there are none. */
  get children(): Children | undefined {
    return this.#list?.byName;
  }

  get childBytes(): number {
    return this.#list?.bytes ?? 0;
  }

  get removed(): boolean {
    return this.generation === REMOVED;
  }

  markRemoved(): void {
    this.generation = REMOVED;
  }

  listing(): string {
    const list = this.#list;
    if (list === undefined) return '';
    list.listing ??= listingOf(list.byName.keys());
    return list.listing;
  }

  /** The children as they are now, to be kept: later changes are made to a copy. */
  shareChildren(): Children | undefined {
    if (this.#list !== undefined) this.#list.shared = true;
    return this.#list?.byName;
  }

  attach(name: string, child: StoreNode): void {
    const list = this.#ownList();
    list.byName.set(name, child);
    list.bytes += name.length + 1;
    child.parent = this;
  }

  /** Takes the child out of the tree; the caller says what becomes of its subtree. */
  detach(name: string): StoreNode | undefined {
    const child = this.children?.get(name);
    if (child === undefined) return undefined;
    const list = this.#ownList();
    list.byName.delete(name);
    list.bytes -= name.length + 1;
    if (list.byName.size === 0) this.#list = undefined;
    return child;
  }

  #ownList(): ChildList {
    if (this.#list === undefined) this.#list = new ChildList(new Map(), 0);
    else if (this.#list.shared) this.#list = new ChildList(new Map(this.#list.byName), this.#list.bytes);
    this.#list.listing = undefined;
    return this.#list;
  }
}

export function listingOf(names: Iterable<string> | undefined): string {
  let text = '';
  if (names !== undefined) for (const name of names) text += `${name}\0`;
  // Flat: the concatenation above is a tree of as many pieces as there are names.
  return text.length === 0 ? '' : flat(text);
}

export class Tree {
  root = new StoreNode(undefined, PRIVATE_TO_DOM0);
  /** Grows with each change of a node and each transaction (xen:tools/xenstore/xenstored_transaction.c). */
  generation = 0;
  /** Set by `nearest`. */
  nearestDepth = 0;
  readonly #onFound: (path: Path) => void;
  #names = new Map<string, string>();

  /** `onFound` gets paths that had to be walked: they are worth remembering. */
  constructor(onFound: (path: Path) => void) {
    this.#onFound = onFound;
  }

  attach(parent: StoreNode, name: string, child: StoreNode): void {
    parent.attach(this.#nameOf(name), child);
  }

  /** One string for all nodes of that name, and no slice of the path that came with the request. */
  #nameOf(name: string): string {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    if (this.#names.size >= MAX_NAMES) this.#names = new Map();
    const made = flat(name);
    this.#names.set(made, made);
    return made;
  }

  find(path: Path): StoreNode | undefined {
    const known = path.node;
    if (known !== undefined && !known.removed) return known;
    let node: StoreNode | undefined = this.root;
    const { parts } = path;
    for (let i = 0; i < parts.length && node !== undefined; i++) node = node.children?.get(parts[i] as string);
    path.node = node;
    if (node !== undefined && !path.remembered) this.#onFound(path);
    return node;
  }

  /** The deepest existing proper ancestor; `nearestDepth` says how many names lead to it. */
  nearest(path: Path): StoreNode {
    let node = this.root;
    const last = path.parts.length - 1;
    let depth = 0;
    for (; depth < last; depth++) {
      const next = node.children?.get(path.parts[depth] as string);
      if (next === undefined) break;
      node = next;
    }
    this.nearestDepth = depth;
    return node;
  }
}

/**
 * Marks a detached subtree as gone; calls `onNode` for each of its nodes with the length of its path, leaves first.
 * Returns how many there were.
 */
export function bury(node: StoreNode, pathBytes: number, onNode: (node: StoreNode, pathBytes: number) => void): number {
  let count = 1;
  if (node.children !== undefined) {
    for (const [name, child] of node.children) count += bury(child, pathBytes + 1 + name.length, onNode);
  }
  onNode(node, pathBytes);
  node.markRemoved();
  return count;
}
