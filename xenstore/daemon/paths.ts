/**
 * Paths as the daemon uses them: checked and split once, then found again by their text. A bounded cache; what is not in
 * it is merely split again.
 * Source: xen:tools/xenstore/xenstored_core.c (is_valid_nodename, canonicalize).
 */
import type { StoreNode } from './tree.js';

const LEGAL = /^\/(?:[A-Za-z0-9\-_@]+(?:\/[A-Za-z0-9\-_@]+)*)?$/;
/** What sscanf("/local/domain/%5u/%n") skips before the length limit counts. */
const DOMAIN_PREFIX = /^\/local\/domain\/(?:\d{1,5}|-\d{1,4})\//;
const MAX_CACHED = 4096;

export class Path {
  readonly text: string;
  /** Names from the root down; empty for `/`. */
  readonly parts: readonly string[];
  /** Where the tree found it last; to be trusted only while `removed` is false. */
  node: StoreNode | undefined;
  remembered = false;

  constructor(text: string) {
    this.text = text;
    this.parts = text === '/' ? [] : text.slice(1).split('/');
  }

  get parentText(): string {
    return this.text.slice(0, this.text.lastIndexOf('/')) || '/';
  }

  get name(): string {
    return this.parts[this.parts.length - 1] ?? '';
  }

  get isRoot(): boolean {
    return this.parts.length === 0;
  }
}

export function childText(parent: string, name: string): string {
  return parent === '/' ? `/${name}` : `${parent}/${name}`;
}

export function isLegalPath(text: string, limit: number): boolean {
  return LEGAL.test(text) && (text.length <= limit || countedLength(text) <= limit);
}

/** What the path quota counts: not the way to a domain's own folder. */
export function countedLength(text: string): number {
  return text.length - (DOMAIN_PREFIX.exec(text)?.[0].length ?? 0);
}

export class PathCache {
  /** Two halves: when the young one is full it becomes the old one, so that no single insertion is expensive. */
  #young = new Map<string, Path>();
  #old = new Map<string, Path>();

  /** The path, or undefined if it is not legal, or longer than the path quota of the caller. */
  get(text: string, limit = Number.POSITIVE_INFINITY): Path | undefined {
    const young = this.#young.get(text);
    if (young !== undefined && text.length <= limit) return young;
    return this.#find(text, limit);
  }

  #find(text: string, limit: number): Path | undefined {
    if (!isLegalPath(text, limit)) return undefined;
    const known = this.#young.get(text) ?? this.#old.get(text);
    if (known === undefined) return new Path(text);
    this.remember(known);
    return known;
  }

  /** Keeps a path whose node exists, so that it need not be split and walked again. */
  remember(path: Path): void {
    path.remembered = true;
    if (this.#young.size >= MAX_CACHED) {
      // What falls out may be remembered again.
      for (const old of this.#old.values()) old.remembered = false;
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(path.text, path);
  }
}
