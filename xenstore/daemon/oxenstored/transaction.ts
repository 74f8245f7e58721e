/**
 * A transaction of oxenstored: sees the tree as it was at its start; when it ends, what it did is put beside what others
 * did, or done again on the tree of that moment. A request outside transactions works on the tree itself.
 * Source: xen:tools/ocaml/xenstored/transaction.ml (commit, test_coalesce).
 */
import type { NodePermissions } from '../node-permissions.js';
import type { Actor } from './rights.js';
import { find, type OxNode, type OxStore } from './store.js';
import { type Parts, permissionText } from './words.js';

export interface Change {
  readonly kind: 'write' | 'rm' | 'permissions';
  readonly parts: Parts;
}

/** A request of a transaction with its answer, to be made again. */
export interface Operation {
  readonly type: number;
  readonly data: string;
  readonly answer: string;
}

export class OxTransaction {
  /** 0 outside transactions. */
  readonly id: number;
  readonly store: OxStore;
  /** What watchers are told, in this order. */
  readonly changes: Change[] = [];
  readonly operations: Operation[] = [];
  quotaReached = false;
  /** The tree before. */
  oldRoot: OxNode;
  readonly #ownedBefore: ReadonlyMap<number, number>;
  readonly #renewals: number;
  #readLow: Parts | undefined;
  #writeLow: Parts | undefined;

  constructor(id: number, store: OxStore) {
    this.id = id;
    this.oldRoot = store.root;
    this.#renewals = store.renewals;
    this.store = id === 0 ? store : store.copy();
    this.#ownedBefore = id === 0 ? store.owned : new Map(store.owned);
  }

  read(actor: Actor, parts: Parts): OxNode {
    const node = this.store.read(actor, parts);
    if (this.id !== 0) this.#readLow = lower(this.#readLow, parts);
    return node;
  }

  write(actor: Actor, parts: Parts, value: string): void {
    const existed = find(this.store.root, parts) !== undefined;
    this.store.write(actor, parts, value);
    this.#wrote(existed ? parts : parts.slice(0, -1), { kind: 'write', parts });
  }

  mkdir(actor: Actor, parts: Parts): void {
    if (this.store.mkdir(actor, parts)) this.#wrote(parts.slice(0, -1), { kind: 'write', parts });
  }

  /** What is missing above a node; nobody is told. */
  makeParents(actor: Actor, parts: Parts): void {
    for (let depth = 1; depth < parts.length; depth++) {
      const parent = parts.slice(0, depth);
      if (find(this.store.root, parent) !== undefined) continue;
      this.store.mkdir(actor, parent);
      this.#wrote(parent.slice(0, -1));
    }
  }

  rm(actor: Actor, parts: Parts): void {
    this.#keepBefore();
    if (this.store.rm(actor, parts)) this.#wrote(parts.slice(0, -1), { kind: 'rm', parts });
  }

  setPermissions(actor: Actor, parts: Parts, permissions: NodePermissions): void {
    this.#keepBefore();
    this.store.setPermissions(actor, parts, permissions);
    this.#wrote(parts, { kind: 'permissions', parts });
  }

  /** Outside transactions the old tree is only needed for these. */
  #keepBefore(): void {
    if (this.id === 0) this.oldRoot = this.store.keep();
  }

  #wrote(low: Parts, change?: Change): void {
    if (this.id !== 0) this.#writeLow = lower(this.#writeLow, low);
    if (change !== undefined) this.changes.push(change);
  }

  /** Puts what was done into `target`, if others were busy elsewhere; else false, and nothing happened. */
  merge(target: OxStore): boolean {
    if (target.root === this.oldRoot && target.renewals === this.#renewals) {
      target.become(this.store);
      return true;
    }
    if (!this.#isUntouched(target, this.#readLow) || !this.#isUntouched(target, this.#writeLow)) return false;
    if (this.#writeLow !== undefined) target.graft(this.#writeLow, this.store, this.#ownedBefore);
    return true;
  }

  #isUntouched(target: OxStore, low: Parts | undefined): boolean {
    if (low === undefined) return true;
    const above = low.slice(0, -1);
    // The lookup stops with an exception where more than the last name is missing.
    if (find(this.oldRoot, above) === undefined || find(target.root, above) === undefined) return false;
    const before = find(this.oldRoot, low);
    const now = find(target.root, low);
    if (before === undefined && now === undefined) return true;
    if (before === undefined || before !== now || target.renewals !== this.#renewals) return false;
    return low.every((_, depth) => sameRights(this.oldRoot, target.root, low.slice(0, depth)));
  }
}

function sameRights(before: OxNode, now: OxNode, parts: Parts): boolean {
  const [a, b] = [find(before, parts), find(now, parts)];
  if (a === undefined || b === undefined) return false;
  return a.permissions === b.permissions || permissionText(a.permissions) === permissionText(b.permissions);
}

/** The part that two paths have in common. */
function lower(known: Parts | undefined, parts: Parts): Parts {
  if (known === undefined) return parts;
  let common = 0;
  while (common < known.length && known[common] === parts[common]) common++;
  return known.slice(0, common);
}
