/**
 * What a xenstore path may look like. Source: xen:docs/misc/xenstore.txt and xen:tools/xenstored/core.c (canonicalize).
 */
import { XenstoreError } from './errors.js';
import { MAX_ABSOLUTE_PATH_BYTES, MAX_RELATIVE_PATH_BYTES } from './wire.js';

/** Letters, digits and `-/_@`: a dot is *not* among them, so a channel name can never be a path element. */
const CHARACTERS = /^[A-Za-z0-9\-/_@]+$/;

/** The reason why `path` is no legal xenstore path, or undefined if it is one. Special paths begin with `@`. */
export function pathProblem(path: string): string | undefined {
  if (path === '') return 'it is empty';
  if (!CHARACTERS.test(path)) return 'only letters, digits and - / _ @ are allowed';
  if (path.includes('//')) return 'it contains //';
  if (path.length > 1 && path.endsWith('/')) return 'it ends in /';
  const limit = path.startsWith('/') ? MAX_ABSOLUTE_PATH_BYTES : MAX_RELATIVE_PATH_BYTES;
  if (path.length > limit) return `it has ${path.length} bytes, the limit is ${limit}`;
  return undefined;
}

/** Throws XenstoreError EINVAL with the reason unless `path` is legal. */
export function checkPath(path: string): void {
  const problem = pathProblem(path);
  if (problem !== undefined) {
    throw new XenstoreError('EINVAL', `'${path.slice(0, 80)}' is no xenstore path: ${problem}`, { path });
  }
}

/** The path as seen from the root: relative ones hang below the caller's own domain. */
export function absolutePath(path: string, ownDomid: number): string {
  return path.startsWith('/') || path.startsWith('@') ? path : `/local/domain/${ownDomid}/${path}`;
}
