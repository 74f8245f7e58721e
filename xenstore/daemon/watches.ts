/**
 * Who watches what. A tree of its own, so that a change costs as much as its path is deep, however many watches there are
 * elsewhere. Knows neither permissions nor messages.
 * Source: xen:tools/xenstore/xenstored_watch.c (fire_watches, is_child, get_watch_path).
 */
import type { Connection } from './connection.js';
import type { Path } from './paths.js';

export interface Watch {
  readonly connection: Connection;
  /** Absolute, or a special name beginning with `@`. */
  readonly path: string;
  readonly token: string;
  /** How much of an event's path to leave out: for a relative watch its base. */
  readonly hiddenBytes: number;
  /** Levels below the path that are reported; undefined for all. */
  readonly depth: number | undefined;
  /** Names in `path`. */
  readonly levels: number;
  /** Order of registration. */
  readonly sequence: number;
}

class WatchNode {
  watches: Watch[] = [];
  children: Map<string, WatchNode> | undefined;

  get isEmpty(): boolean {
    return this.watches.length === 0 && this.children === undefined;
  }
}

export type { WatchNode };

const NONE: readonly Watch[] = [];

export class WatchIndex {
  readonly #root = new WatchNode();
  readonly #special = new Map<string, Watch[]>();
  #count = 0;
  /** How many have a depth. */
  #limited = 0;
  #sequence = 0;

  get count(): number {
    return this.#count;
  }

  nextSequence(): number {
    return this.#sequence++;
  }

  add(watch: Watch): void {
    this.#count++;
    if (watch.depth !== undefined) this.#limited++;
    if (watch.path.startsWith('@')) {
      const watches = this.#special.get(watch.path);
      if (watches === undefined) this.#special.set(watch.path, [watch]);
      else watches.push(watch);
      return;
    }
    let node = this.#root;
    for (const name of namesOf(watch.path)) {
      node.children ??= new Map();
      let next = node.children.get(name);
      if (next === undefined) {
        next = new WatchNode();
        node.children.set(name, next);
      }
      node = next;
    }
    node.watches.push(watch);
  }

  remove(watch: Watch): void {
    this.#count--;
    if (watch.depth !== undefined) this.#limited--;
    if (watch.path.startsWith('@')) {
      const rest = (this.#special.get(watch.path) ?? []).filter((other) => other !== watch);
      if (rest.length > 0) this.#special.set(watch.path, rest);
      else this.#special.delete(watch.path);
      return;
    }
    removeBelow(this.#root, namesOf(watch.path), 0, watch);
  }

  /** Watches on the special name itself. */
  special(name: string): readonly Watch[] {
    return this.#special.get(name) ?? NONE;
  }

  /** Watches that a change of `path` concerns: on it and, unless `exact`, above it; in order of registration. */
  matching(path: Path, exact: boolean): readonly Watch[] {
    if (this.#count === 0) return NONE;
    let found: readonly Watch[] = NONE;
    let sources = 0;
    let node: WatchNode | undefined = this.#root;
    const { parts } = path;
    for (let depth = 0; ; depth++) {
      if (node.watches.length > 0 && (!exact || depth === parts.length)) {
        found = sources === 0 ? node.watches : [...found, ...node.watches];
        sources++;
      }
      if (depth === parts.length) break;
      node = node.children?.get(parts[depth] as string);
      if (node === undefined) break;
    }
    if (this.#limited > 0)
      found = found.filter(({ depth, levels }) => depth === undefined || parts.length - levels <= depth);
    return sources > 1 ? [...found].sort((a, b) => a.sequence - b.sequence) : found;
  }

  /** Where watches below `path` would be, or undefined if there are none at or below it. */
  below(path: Path): WatchNode | undefined {
    if (this.#count === 0) return undefined;
    let node: WatchNode | undefined = this.#root;
    for (const name of path.parts) {
      node = node.children?.get(name);
      if (node === undefined) return undefined;
    }
    return node;
  }
}

/** What counts for the memory quota. */
export function watchBytes(path: string, token: string): number {
  return path.length + token.length;
}

export function levelsOf(path: string): number {
  return namesOf(path).length;
}

function namesOf(path: string): string[] {
  return path === '/' ? [] : path.slice(1).split('/');
}

/** Removes the watch and every index node that is empty then, so that a hostile client leaves nothing behind. */
function removeBelow(node: WatchNode, names: readonly string[], depth: number, watch: Watch): void {
  if (depth === names.length) {
    // A new array: a firing may be iterating over the old one.
    node.watches = node.watches.filter((other) => other !== watch);
    return;
  }
  const name = names[depth] as string;
  const child = node.children?.get(name);
  if (child === undefined) return;
  removeBelow(child, names, depth + 1, watch);
  if (!child.isEmpty) return;
  node.children?.delete(name);
  if (node.children?.size === 0) node.children = undefined;
}
