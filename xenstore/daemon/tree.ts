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

/** Above this length `split` returns views of the whole path, which would live as long as the node. */
const MAX_COPIED_NAME = 12;

export class StoreNode implements NodeView {
  parent: StoreNode | undefined;
  value = '';
  permissions: NodePermissions;
  generation = 0;
  children: Map<string, StoreNode> | undefined;
  childBytes = 0;
  /** Detached: no longer part of any tree. */
  removed = false;
  /** A transaction looks at `children`: copy before changing. */
  childrenShared = false;
  #listing: string | undefined;

  constructor(parent: StoreNode | undefined, permissions: NodePermissions) {
    this.parent = parent;
    this.permissions = permissions;
  }

  listing(): string {
    this.#listing ??= listingOf(this.children?.keys());
    return this.#listing;
  }

  attach(name: string, child: StoreNode): void {
    const children = this.#ownChildren();
    children.set(name.length > MAX_COPIED_NAME ? flat(name) : name, child);
    child.parent = this;
    this.childBytes += name.length + 1;
  }

  /** Takes the child out of the tree; the caller says what becomes of its subtree. */
  detach(name: string): StoreNode | undefined {
    const child = this.children?.get(name);
    if (child === undefined) return undefined;
    const children = this.#ownChildren();
    children.delete(name);
    if (children.size === 0) this.children = undefined;
    this.childBytes -= name.length + 1;
    return child;
  }

  #ownChildren(): Map<string, StoreNode> {
    this.#listing = undefined;
    if (this.children === undefined) this.children = new Map();
    else if (this.childrenShared) this.children = new Map(this.children);
    this.childrenShared = false;
    return this.children;
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

  find(path: Path): StoreNode | undefined {
    const known = path.node;
    if (known !== undefined && !known.removed) return known;
    let node: StoreNode | undefined = this.root;
    const { parts } = path;
    for (let i = 0; i < parts.length && node !== undefined; i++) node = node.children?.get(parts[i] as string);
    path.node = node;
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

/** Marks a detached subtree as gone; calls `onNode` for each of its nodes, leaves first. Returns how many there were. */
export function bury(node: StoreNode, onNode: (node: StoreNode) => void): number {
  let count = 1;
  if (node.children !== undefined) {
    for (const child of node.children.values()) count += bury(child, onNode);
  }
  node.removed = true;
  onNode(node);
  return count;
}
