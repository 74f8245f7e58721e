/**
 * One transaction: its own copy of every node it touched, taken at the first touch. Committing checks that none of them
 * changed meanwhile. Knows neither connections nor messages.
 * Source: xen:tools/xenstore/xenstored_transaction.c (access_node, finalize_transaction).
 */
import type { NodePermissions } from './node-permissions.js';
import { childText, type Path } from './paths.js';
import { bury, type Children, listingOf, type NodeView, StoreNode, type Tree } from './tree.js';

/** Generation of a node that does not exist. */
const ABSENT = -1;

export class TransactionNode implements NodeView {
  readonly path: Path;
  /** The node at the first touch, if there was one. */
  readonly original: StoreNode | undefined;
  readonly firstGeneration: number;
  readonly originalPermissions: NodePermissions | undefined;

  /** Exists, as the transaction sees it. */
  present: boolean;
  /** Not `original` any more: removed and made again. */
  recreated = false;
  modified = false;
  value: string;
  permissions: NodePermissions;
  generation: number;
  childBytes: number;
  fire: 'no' | 'exact' | 'below' = 'no';
  /** What its copy counts for the memory quota of the domain that has the transaction. */
  copyBytes = 0;
  /** Set while committing, once this node's change is in effect. */
  committed = false;
  #base: Children | undefined;
  #removed: Set<string> | undefined;
  #added: string[] | undefined;
  #listing: string | undefined;

  constructor(path: Path, original: StoreNode | undefined, permissions: NodePermissions) {
    this.path = path;
    this.original = original;
    this.present = original !== undefined;
    this.firstGeneration = original?.generation ?? ABSENT;
    this.originalPermissions = original === undefined ? undefined : permissions;
    this.value = original?.value ?? '';
    this.permissions = permissions;
    this.generation = this.firstGeneration;
    this.childBytes = original?.childBytes ?? 0;
    this.#base = original?.shareChildren();
  }

  /** Names in the order of creation. */
  *childNames(): IterableIterator<string> {
    if (this.#base !== undefined) {
      for (const name of this.#base.keys()) if (this.#removed?.has(name) !== true) yield name;
    }
    if (this.#added !== undefined) yield* this.#added;
  }

  listing(): string {
    this.#listing ??= listingOf(this.childNames());
    return this.#listing;
  }

  /** May list a name twice: one that vanished outside after this copy was taken. Such a transaction cannot commit. */
  addChild(name: string): void {
    this.#listing = undefined;
    this.#added ??= [];
    this.#added.push(name);
    this.childBytes += name.length + 1;
  }

  /** False if the copy has no such child: one that appeared outside after it was taken. */
  removeChild(name: string): boolean {
    if (this.#base?.has(name) === true && this.#removed?.has(name) !== true) {
      this.#removed ??= new Set();
      this.#removed.add(name);
    } else {
      const index = this.#added?.indexOf(name) ?? -1;
      if (index < 0) return false;
      this.#added?.splice(index, 1);
    }
    this.#listing = undefined;
    this.childBytes -= name.length + 1;
    return true;
  }

  /** A node that the transaction makes: empty, whatever it was before. */
  create(permissions: NodePermissions): void {
    this.present = true;
    this.recreated = true;
    this.value = '';
    this.permissions = permissions;
    this.childBytes = 0;
    this.#base = undefined;
    this.#removed = undefined;
    this.#added = undefined;
    this.#listing = undefined;
  }

  get removedChildren(): Iterable<string> {
    return this.#removed ?? [];
  }

  get addedChildren(): Iterable<string> {
    return this.#added ?? [];
  }
}

export class Transaction {
  readonly id: number;
  /** Of the store when it was started. */
  readonly generation: number;
  /** In the order of the first touch. */
  readonly nodes = new Map<string, TransactionNode>();
  /** Change of the number of nodes each domain owns. */
  readonly nodeCounts = new Map<number, number>();
  /** Of all copies. */
  bytes = 0;
  nodeCreated = false;
  /** A request in it failed half way: it can only be aborted. */
  failed = false;

  constructor(id: number, generation: number) {
    this.id = id;
    this.generation = generation;
  }

  count(domid: number, change: 1 | -1): void {
    this.nodeCounts.set(domid, (this.nodeCounts.get(domid) ?? 0) + change);
  }

  /** Whether every node it touched is as it was. */
  isCurrent(tree: Tree): boolean {
    for (const node of this.nodes.values()) {
      const { original } = node;
      if (original === undefined) {
        if (tree.find(node.path) !== undefined) return false;
      } else if (original.removed || original.generation !== node.firstGeneration) return false;
    }
    return true;
  }

  /**
   * Puts every change into the tree; `isCurrent` has been checked. `onRemoved` is called for each node that is gone.
   * Generations are given in the order of the first touch.
   */
  apply(tree: Tree): void {
    const made = new Map<string, StoreNode>();
    for (const node of this.nodes.values()) {
      if (!node.modified || !node.present) continue;
      const target =
        node.original === undefined || node.recreated ? new StoreNode(undefined, node.permissions) : node.original;
      target.value = node.value;
      target.permissions = node.permissions;
      target.generation = ++tree.generation;
      made.set(node.path.text, target);
    }
    for (const node of this.nodes.values()) {
      const target = node.modified && node.present ? made.get(node.path.text) : undefined;
      if (target === undefined) continue;
      for (const name of node.removedChildren) {
        const gone = target.detach(name);
        if (gone !== undefined) bury(gone, 0, () => {});
      }
      for (const name of node.addedChildren) {
        const child = made.get(childText(node.path.text, name));
        if (child !== undefined) tree.attach(target, name, child);
      }
    }
  }
}
