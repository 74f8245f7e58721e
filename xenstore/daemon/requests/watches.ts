/**
 * WATCH, UNWATCH and RESET_WATCHES.
 * Source: xen:tools/xenstore/xenstored_watch.c (do_watch, do_unwatch), xenstored_domain.c (do_reset_watches).
 */
import { MAX_RELATIVE_PATH_BYTES } from '../../wire.js';
import type { Connection } from '../connection.js';
import type { StoreCore } from '../core.js';
import { dropTransactions, dropWatches } from '../lifecycle.js';
import type { DaemonError } from '../likeness.js';
import { isFull } from '../memory.js';
import type { Request } from '../request.js';
import { levelsOf, type Watch, watchBytes } from '../watches.js';

function isAbsolute(text: string): boolean {
  return text.startsWith('/') || text.startsWith('@');
}

/** Path and token identify a watch of a connection; neither can contain NUL. */
function keyOf(connection: Connection, text: string, token: string): string {
  return `${isAbsolute(text) ? text : connection.base + text}\0${token}`;
}

export function watch(core: StoreCore, request: Request): DaemonError | undefined {
  const { connection } = request;
  const [text, token, ...more] = request.strings();
  if (text === undefined || token === undefined) return 'EINVAL';
  const depth = depthOf(core, more);
  if (depth === 'EINVAL' || !isWatchable(core, connection, text)) return 'EINVAL';
  const key = keyOf(connection, text, token);
  if (connection.watches.has(key)) return 'EEXIST';
  if (tooMany(core, connection)) return core.rules.watchQuotaExceeded;
  const bytes = watchBytes(key.slice(0, key.indexOf('\0')), token);
  if (connection.domain !== undefined && isFull(core, connection.domain, bytes)) return 'ENOMEM';
  const made: Watch = {
    connection,
    path: key.slice(0, key.indexOf('\0')),
    token,
    hiddenBytes: isAbsolute(text) ? 0 : connection.base.length,
    depth,
    levels: levelsOf(key.slice(0, key.indexOf('\0'))),
    sequence: core.watches.nextSequence(),
  };
  connection.watches.set(key, made);
  core.watches.add(made);
  if (connection.domain !== undefined) {
    connection.domain.watches++;
    connection.domain.memory += bytes;
  }
  core.acknowledge(request);
  core.event(made, made.path);
  return undefined;
}

function depthOf(core: StoreCore, more: readonly string[]): number | undefined | 'EINVAL' {
  if (more.length === 0) return undefined;
  if (more.length > 1 || !core.rules.features) return 'EINVAL';
  const depth = Number.parseInt(more[0] ?? '', 10) || 0;
  return depth < 0 ? 'EINVAL' : depth;
}

function isWatchable(core: StoreCore, connection: Connection, text: string): boolean {
  // The daemon takes any special name; those it does not know never fire.
  return text.startsWith('@') ? text.length <= MAX_RELATIVE_PATH_BYTES : core.resolve(connection, text) !== undefined;
}

function tooMany(core: StoreCore, connection: Connection): boolean {
  if (connection.privileged) return false;
  const count = connection.domain?.watches ?? 0;
  const max = core.quota(connection, 'watches');
  return core.rules.strictQuotas ? count + 1 >= max : count > max;
}

export function unwatch(core: StoreCore, request: Request): DaemonError | undefined {
  const { connection } = request;
  const [text, token, ...more] = request.strings();
  if (text === undefined || token === undefined || more.length > 0) return 'EINVAL';
  if (core.rules.features && !isWatchable(core, connection, text)) return 'EINVAL';
  const key = keyOf(connection, text, token);
  const known = connection.watches.get(key);
  if (known === undefined) return 'ENOENT';
  connection.watches.delete(key);
  core.watches.remove(known);
  if (connection.domain !== undefined) {
    connection.domain.watches--;
    connection.domain.memory -= watchBytes(known.path, token);
  }
  core.acknowledge(request);
  return undefined;
}

export function resetWatches(core: StoreCore, request: Request): DaemonError | undefined {
  dropWatches(core, request.connection);
  dropTransactions(request.connection);
  core.acknowledge(request);
  return undefined;
}
