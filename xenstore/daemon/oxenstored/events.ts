/**
 * Which watchers oxenstored tells of a change, and in which order: from the root down, the newest first at each place.
 * Source: xen:tools/ocaml/xenstored/connections.ml (fire_watches, fire_spec_watches), connection.ml (fire_watch).
 */
import type { SpecialName, StoreCore } from '../core.js';
import { type NodePermissions, READ } from '../node-permissions.js';
import { Path } from '../paths.js';
import type { Watch, WatchNode } from '../watches.js';
import { refusal } from './refusal.js';
import { has } from './rights.js';
import { find, type OxNode } from './store.js';
import type { OxTransaction } from './transaction.js';
import type { Parts } from './words.js';

const ROOT = new Path('/');

/** Tells the watchers of all that was done in it. */
export function fireChanges(core: StoreCore, targets: ReadonlyMap<number, number>, done: OxTransaction): void {
  for (const { kind, parts } of done.changes) {
    const now = done.store.root;
    const roots = kind === 'write' ? [now] : kind === 'rm' ? [done.oldRoot] : [done.oldRoot, now];
    new Firing(core, targets, roots).along(parts, kind === 'rm');
  }
}

/** Throws Refusal ENOENT when dom0 was released: its ring connection would have to pass the events on. */
export function fireSpecial(
  core: StoreCore,
  targets: ReadonlyMap<number, number>,
  root: OxNode,
  name: SpecialName,
): void {
  if (core.domains.introduced(0) === undefined) throw refusal('ENOENT');
  new Firing(core, targets, [root]).tell(core.watches.special(name), name, [name]);
}

class Firing {
  readonly #core: StoreCore;
  readonly #targets: ReadonlyMap<number, number>;
  /** The trees in which a watcher must be able to read the node or its parent. */
  readonly #roots: readonly OxNode[];

  constructor(core: StoreCore, targets: ReadonlyMap<number, number>, roots: readonly OxNode[]) {
    this.#core = core;
    this.#targets = targets;
    this.#roots = roots;
  }

  along(parts: Parts, below: boolean): void {
    const text = `/${parts.join('/')}`;
    let at: WatchNode | undefined = this.#core.watches.below(ROOT);
    for (let depth = 0; at !== undefined; depth++) {
      this.tell(at.watches, text, parts);
      if (depth === parts.length) break;
      at = at.children?.get(parts[depth] as string);
    }
    if (below && at !== undefined) this.#below(at, parts);
  }

  /** Nodes that do not exist count, too. */
  #below(index: WatchNode, parts: Parts): void {
    if (index.children === undefined) return;
    for (const name of [...index.children.keys()].sort()) {
      const child = index.children.get(name);
      if (child === undefined) continue;
      const path = [...parts, name];
      this.tell(child.watches, `/${path.join('/')}`, path);
      this.#below(child, path);
    }
  }

  tell(watches: readonly Watch[], text: string, parts: Parts): void {
    if (watches.length === 0) return;
    const guards = this.#guards(parts);
    for (let i = watches.length - 1; i >= 0; i--) {
      const watch = watches[i] as Watch;
      const { domid } = watch.connection;
      const actor = { domid, target: this.#targets.get(domid) };
      if (guards.some((permissions) => has(actor, READ, permissions))) this.#core.event(watch, text, this.#core.asked);
    }
  }

  #guards(parts: Parts): NodePermissions[] {
    if (parts.length === 0) return [];
    return this.#roots.flatMap((root) => {
      const parent = find(root, parts.slice(0, -1));
      const node = parent?.children?.get(parts[parts.length - 1] as string);
      return [parent, node].flatMap((guard) => (guard === undefined ? [] : [guard.permissions]));
    });
  }
}
