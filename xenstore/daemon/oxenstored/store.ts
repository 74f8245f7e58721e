/**
 * The tree as oxenstored keeps it: a version of it can be kept at no cost, and is copied node by node where it is changed
 * afterwards. Counts the nodes of each owner. Knows neither watches nor messages.
 * Source: xen:tools/ocaml/xenstored/store.ml, quota.ml.
 */
import { NodePermissions, PRIVATE_TO_DOM0, READ, WRITE } from '../node-permissions.js';
import { refusal } from './refusal.js';
import { type Actor, has, isDom0, isOwner, withoutDomain } from './rights.js';
import type { Parts } from './words.js';

export class OxNode {
  permissions: NodePermissions;
  value: string;
  children: Map<string, OxNode> | undefined;
  /** The version of the store in which it may be changed in place. */
  readonly version: number;

  constructor(version: number, permissions: NodePermissions, value = '') {
    this.version = version;
    this.permissions = permissions;
    this.value = value;
  }

  copy(version: number): OxNode {
    const made = new OxNode(version, this.permissions, this.value);
    if (this.children !== undefined) made.children = new Map(this.children);
    return made;
  }
}

export interface Limits {
  readonly nodes: number;
  readonly valueBytes: number;
}

/** Numbers of versions, shared by a store and its copies. */
interface Versions {
  last: number;
}

export class OxStore {
  root: OxNode;
  /** Nodes by owner. */
  owned: Map<number, number>;
  /** How often every node was made anew, as the death of a domain does. */
  renewals = 0;
  readonly #limits: () => Limits;
  readonly #versions: Versions;
  #version: number;

  constructor(limits: () => Limits, from?: OxStore) {
    this.#limits = limits;
    this.#versions = from?.versions ?? { last: 0 };
    this.#version = ++this.#versions.last;
    this.owned = new Map(from?.owned);
    this.root = from?.root ?? new OxNode(this.#version, PRIVATE_TO_DOM0);
    this.renewals = from?.renewals ?? 0;
  }

  get versions(): Versions {
    return this.#versions;
  }

  /** The tree as it is now, which will not change any more. */
  keep(): OxNode {
    this.#version = ++this.#versions.last;
    return this.root;
  }

  copy(): OxStore {
    this.keep();
    return new OxStore(this.#limits, this);
  }

  read(actor: Actor, parts: Parts): OxNode {
    const node = present(this.root, parts);
    demand(actor, READ, node);
    return node;
  }

  write(actor: Actor, parts: Parts, value: string): void {
    const { node, whole } = deepest(this.root, parts);
    const { owner } = node.permissions;
    this.#checkQuota(whole || isDom0(actor) ? -1 : owner, value.length);
    if (whole) {
      demand(actor, WRITE, node);
      // A root that stays equal is not made anew.
      if (parts.length > 0 || node.value !== value) this.#writable(parts.slice(0, -1));
      if (node.value !== value) this.#writable(parts).value = value;
    } else this.#add(actor, parts, value);
  }

  /** False if it existed. */
  mkdir(actor: Actor, parts: Parts): boolean {
    const { node, whole } = deepest(this.root, parts);
    if (!whole && !isDom0(actor)) this.#checkQuota(node.permissions.owner, 0);
    if (whole) {
      if (parts.length > 0) demand(actor, WRITE, node);
      return parts.length === 0;
    }
    this.#add(actor, parts, '');
    return true;
  }

  #add(actor: Actor, parts: Parts, value: string): void {
    const parent = present(this.root, parts.slice(0, -1));
    demand(actor, WRITE, parent);
    const own = this.#writable(parts.slice(0, -1));
    own.children ??= new Map();
    own.children.set(parts[parts.length - 1] as string, new OxNode(this.#version, parent.permissions, value));
    this.#count(parent.permissions.owner, 1);
  }

  /** False if there was nothing to remove. */
  rm(actor: Actor, parts: Parts): boolean {
    if (parts.length === 0) {
      demand(actor, WRITE, this.root);
      this.#discount(this.root);
      this.#writable([]).children = undefined;
      return true;
    }
    const parent = present(this.root, parts.slice(0, -1));
    const name = parts[parts.length - 1] as string;
    const node = parent.children?.get(name);
    if (node === undefined) return false;
    demand(actor, WRITE, node);
    const own = this.#writable(parts.slice(0, -1));
    own.children?.delete(name);
    this.#discount(node);
    return true;
  }

  setPermissions(actor: Actor, parts: Parts, permissions: NodePermissions): void {
    const node = present(this.root, parts);
    const { owner } = node.permissions;
    if (owner !== permissions.owner && !isDom0(actor)) throw refusal('EACCES');
    if (parts.length > 0 && !isOwner(actor, node.permissions)) throw refusal('EACCES');
    demand(actor, WRITE, node);
    this.#writable(parts).permissions = permissions;
    this.#count(owner, -1);
    this.#count(permissions.owner, 1);
  }

  /** A domain died: its nodes go with all that is below them, and nobody's permissions name it any more. */
  forget(domid: number): void {
    this.renewals++;
    if (this.root.permissions.owner === domid) {
      // The root is never removed, but has no owner then.
      const [first, ...others] = this.root.permissions.entries;
      const root = this.#writable([]);
      root.permissions = new NodePermissions([{ access: first?.access ?? 0, domid: -1, ignored: false }, ...others]);
    }
    this.root = this.#forgetBelow(this.root, domid);
    this.owned.delete(domid);
  }

  #forgetBelow(node: OxNode, domid: number): OxNode {
    let made = node;
    const kept = withoutDomain(node.permissions, domid);
    if (kept !== undefined) {
      made = this.#own(made);
      const { entries } = node.permissions;
      made.permissions = new NodePermissions(kept.flatMap((i) => entries[i] ?? []));
    }
    if (node.children === undefined) return made;
    for (const [name, child] of node.children) {
      const changed = child.permissions.owner === domid ? undefined : this.#forgetBelow(child, domid);
      if (changed === child) continue;
      made = this.#own(made);
      if (changed === undefined) made.children?.delete(name);
      else made.children?.set(name, changed);
    }
    return made;
  }

  /** Takes over another store's state. */
  become(other: OxStore): void {
    this.keep();
    this.root = other.root;
    this.owned = new Map(other.owned);
  }

  /** Puts one node of another store in the place that it has there, with what that store counted since `before`. */
  graft(parts: Parts, other: OxStore, before: ReadonlyMap<number, number>): void {
    const node = find(other.root, parts);
    if (node === undefined) return;
    const parent = this.#writable(parts.slice(0, -1));
    parent.children ??= new Map();
    parent.children.set(parts[parts.length - 1] as string, node);
    for (const [domid, count] of other.owned) this.#count(domid, count - (before.get(domid) ?? 0));
  }

  recount(): void {
    this.owned = new Map();
    const visit = (node: OxNode): void => {
      this.#count(node.permissions.owner, 1);
      if (node.children !== undefined) for (const child of node.children.values()) visit(child);
    };
    visit(this.root);
  }

  /** `domid` -1 for none: the size alone is checked. */
  #checkQuota(domid: number, valueBytes: number): void {
    const { nodes, valueBytes: most } = this.#limits();
    if (valueBytes > most) throw refusal('E2BIG');
    if (domid > 0 && (this.owned.get(domid) ?? 0) >= nodes) throw refusal('EQUOTA');
  }

  #count(domid: number, change: number): void {
    const count = (this.owned.get(domid) ?? 0) + change;
    if (count === 0) this.owned.delete(domid);
    else this.owned.set(domid, count);
  }

  #discount(node: OxNode): void {
    this.#count(node.permissions.owner, -1);
    if (node.children !== undefined) for (const child of node.children.values()) this.#discount(child);
  }

  #own(node: OxNode): OxNode {
    return node.version === this.#version ? node : node.copy(this.#version);
  }

  /** The node, and each on the way to it, as objects of this version; it exists. */
  #writable(parts: Parts): OxNode {
    this.root = this.#own(this.root);
    let at = this.root;
    for (const name of parts) {
      const child = at.children?.get(name);
      if (child === undefined) throw refusal('ENOENT');
      const own = this.#own(child);
      if (own !== child) at.children?.set(name, own);
      at = own;
    }
    return at;
  }
}

export function find(root: OxNode, parts: Parts): OxNode | undefined {
  let at: OxNode | undefined = root;
  for (let i = 0; i < parts.length && at !== undefined; i++) at = at.children?.get(parts[i] as string);
  return at;
}

function present(root: OxNode, parts: Parts): OxNode {
  const node = find(root, parts);
  if (node === undefined) throw refusal('ENOENT');
  return node;
}

function demand(actor: Actor, need: number, node: OxNode): void {
  if (!has(actor, need, node.permissions)) throw refusal('EACCES');
}

/** The deepest node on the way to a path, and whether it is the path's own. */
function deepest(root: OxNode, parts: Parts): { node: OxNode; whole: boolean } {
  let node = root;
  for (const name of parts) {
    const child = node.children?.get(name);
    if (child === undefined) return { node, whole: false };
    node = child;
  }
  return { node, whole: true };
}
