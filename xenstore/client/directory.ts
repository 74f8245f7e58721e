/**
 * Reading a directory that does not fit into one answer, piece by piece, without mixing two states of it. Knows the
 * DIRECTORY_PART format (xen:docs/misc/xenstore.txt) and not how it is asked for.
 */
import { isXenstoreError, XenstoreError } from '../errors.js';

/** How often reading starts anew because the children changed meanwhile. */
export const MAX_DIRECTORY_RESTARTS = 20;
/** Names of about two million children; more is no directory anyone meant. */
const MAX_DIRECTORY_BYTES = 32 * 1024 * 1024;

/**
 * `ask` returns the answer to DIRECTORY_PART from a byte offset on: the generation, NUL, then whole names with a NUL
 * each, and one more NUL after the last name of all. `tooBig` is thrown when the daemon has no DIRECTORY_PART
 * (oxenstored), as libxenstore does. Throws XenstoreError `conflict` when the directory changes faster than it is read.
 */
export async function readLongDirectory(
  path: string,
  ask: (offset: number) => Promise<Buffer>,
  tooBig: XenstoreError,
): Promise<string[]> {
  for (let restarts = 0; restarts <= MAX_DIRECTORY_RESTARTS; restarts++) {
    const names = await readOneGeneration(path, ask, tooBig);
    if (names !== undefined) return names;
  }
  throw new XenstoreError(
    'conflict',
    `the children of '${path}' changed during each of ${MAX_DIRECTORY_RESTARTS + 1} attempts to list them`,
    { path },
  );
}

/** Undefined: the children changed in between. */
async function readOneGeneration(
  path: string,
  ask: (offset: number) => Promise<Buffer>,
  tooBig: XenstoreError,
): Promise<string[] | undefined> {
  const parts: Buffer[] = [];
  let generation: string | undefined;
  let offset = 0;
  while (offset < MAX_DIRECTORY_BYTES) {
    const answer = await ask(offset).catch((error: unknown) => {
      throw isXenstoreError(error, 'ENOSYS') ? tooBig : error;
    });
    const generationEnd = answer.indexOf(0);
    const seen = answer.toString('latin1', 0, Math.max(generationEnd, 0));
    const names = answer.subarray(generationEnd + 1);
    if (generationEnd < 1 || names.length === 0) {
      throw new XenstoreError('protocol', `xenstored sent a part of the directory '${path}' that holds nothing`, {
        path,
      });
    }
    generation ??= seen;
    if (seen !== generation) return undefined;
    parts.push(names);
    if (isLast(names)) return joinNames(parts);
    offset += names.length;
  }
  throw tooBig;
}

/** An empty name ends the list. */
function isLast(names: Buffer): boolean {
  return names[names.length - 1] === 0 && (names.length === 1 || names[names.length - 2] === 0);
}

function joinNames(parts: readonly Buffer[]): string[] {
  const all = Buffer.concat(parts).toString('utf8');
  return all.split('\0').filter((name) => name !== '');
}
