/**
 * Requests about nodes: READ, DIRECTORY, DIRECTORY_PART, WRITE, MKDIR, RM, GET_PERMS, SET_PERMS.
 * Source: xen:tools/xenstore/xenstored_core.c (do_read and its neighbours).
 */

import { MAX_PAYLOAD_BYTES } from '../../wire.js';
import { getNode, readNode } from '../access.js';
import { writePermissions, writeValue } from '../changes.js';
import type { SpecialName, StoreCore } from '../core.js';
import { createNode } from '../creation.js';
import { fireForSpecialPermissions } from '../firing.js';
import { textOf } from '../latin1.js';
import type { DaemonError } from '../likeness.js';
import { NodePermissions, OWNER, parseEntries, READ, WRITE } from '../node-permissions.js';
import type { Path } from '../paths.js';
import { DOMID_ANY, rightsOf, settled } from '../permission-check.js';
import { removeNode } from '../removal.js';
import { atoi, type Request } from '../request.js';

/** The node that the only argument names, readable. */
function readableNode(core: StoreCore, request: Request) {
  const text = request.onlyString();
  if (text === undefined) return core.rules.malformedRead;
  const path = core.resolve(request.connection, text);
  return path === undefined ? 'EINVAL' : getNode(core, request, path, READ);
}

export function read(core: StoreCore, request: Request): DaemonError | undefined {
  const node = readableNode(core, request);
  if (typeof node === 'string') return node;
  core.reply(request, node.value);
  return undefined;
}

export function directory(core: StoreCore, request: Request): DaemonError | undefined {
  const node = readableNode(core, request);
  if (typeof node === 'string') return node;
  if (node.childBytes > MAX_PAYLOAD_BYTES) return 'E2BIG';
  core.reply(request, node.listing());
  return undefined;
}

/** A piece of the list, from a byte offset on; the last piece ends with one more NUL. */
export function directoryPart(core: StoreCore, request: Request): DaemonError | undefined {
  const [text, offsetText, ...more] = request.strings();
  if (text === undefined || offsetText === undefined || more.length > 0) return 'EINVAL';
  const path = core.resolve(request.connection, text);
  if (path === undefined) return 'EINVAL';
  const node = getNode(core, request, path, READ);
  if (typeof node === 'string') return node;
  const generation = `${node.generation}\0`;
  const offset = atoi(offsetText) >>> 0;
  if (offset >= node.childBytes) {
    core.reply(request, `${generation}\0`);
    return undefined;
  }
  const names = node.listing();
  const room = MAX_PAYLOAD_BYTES - generation.length - 1;
  let end = offset;
  while (end < names.length) {
    const nul = names.indexOf('\0', end);
    if (nul - offset >= room) break;
    end = nul + 1;
  }
  core.reply(request, generation + names.slice(offset, end) + (end === names.length ? '\0' : ''));
  return undefined;
}

export function write(core: StoreCore, request: Request): DaemonError | undefined {
  const nul = request.firstNul();
  if (nul < 0) return 'EINVAL';
  const path = core.resolve(request.connection, textOf(request.bytes, request.start, nul));
  if (path === undefined) return 'EINVAL';
  const node = getNode(core, request, path, WRITE);
  const value = textOf(request.bytes, nul + 1, request.end);
  const problem =
    typeof node === 'string'
      ? node === 'ENOENT'
        ? createNode(core, request, path, value)
        : node
      : writeValue(core, request, path, node, value);
  if (problem === undefined) core.acknowledge(request);
  return problem;
}

/** The path that the only argument names, for requests that change something. */
function changedPath(core: StoreCore, request: Request): Path | DaemonError {
  const text = request.onlyString();
  if (text === undefined) return core.rules.malformedChange;
  return core.resolve(request.connection, text) ?? 'EINVAL';
}

export function mkdir(core: StoreCore, request: Request): DaemonError | undefined {
  const path = changedPath(core, request);
  if (typeof path === 'string') return path;
  const node = getNode(core, request, path, WRITE);
  if (typeof node === 'string') {
    const problem = node === 'ENOENT' ? createNode(core, request, path, '') : node;
    if (problem !== undefined) return problem;
  }
  core.acknowledge(request);
  return undefined;
}

export function rm(core: StoreCore, request: Request): DaemonError | undefined {
  const path = changedPath(core, request);
  if (typeof path === 'string') return path;
  const node = getNode(core, request, path, WRITE);
  const problem =
    typeof node === 'string' ? absentIsFine(core, request, path, node) : remove(core, request, path, node);
  if (problem === undefined) core.acknowledge(request);
  return problem;
}

/** Nothing to remove is no error as long as the parent exists. */
function absentIsFine(core: StoreCore, request: Request, path: Path, error: DaemonError): DaemonError | undefined {
  if (error !== 'ENOENT') return error;
  const parent = core.paths.get(path.parentText);
  const node = parent === undefined ? undefined : readNode(core, request, parent);
  if (typeof node === 'string') return node;
  return node === undefined ? 'ENOENT' : undefined;
}

function remove(
  core: StoreCore,
  request: Request,
  path: Path,
  node: Parameters<typeof removeNode>[3],
): DaemonError | undefined {
  return path.isRoot ? 'EINVAL' : removeNode(core, request, path, node);
}

export function getPermissions(core: StoreCore, request: Request): DaemonError | undefined {
  const text = request.onlyString();
  const special = text === undefined ? undefined : specialPermissions(core, text);
  if (core.rules.features && text?.startsWith('@') === true && special === undefined) return 'ENOENT';
  if (special !== undefined && core.rules.specialPermissionsReadable) {
    if ((rightsOf(request.connection, special, Number.POSITIVE_INFINITY, core.domains) & READ) === 0) return 'EACCES';
    core.reply(request, special.toWire());
    return undefined;
  }
  const node = readableNode(core, request);
  if (typeof node === 'string') return node;
  core.reply(request, node.permissions.toWire());
  return undefined;
}

function specialPermissions(core: StoreCore, name: string): NodePermissions | undefined {
  return name === '@introduceDomain' || name === '@releaseDomain' ? core.special[name] : undefined;
}

export function setPermissions(core: StoreCore, request: Request): DaemonError | undefined {
  const [text, ...entryTexts] = request.strings();
  if (text === undefined || entryTexts.length === 0) return 'EINVAL';
  const { connection } = request;
  const max = core.quota(connection, 'permissions') - (core.rules.strictQuotas ? 1 : 0);
  if (!connection.privileged && entryTexts.length > max) return core.rules.quotaExceeded;
  connection.domain?.noteMaximum('permissions', entryTexts.length);
  const wanted = requestedPermissions(core, entryTexts);
  if (typeof wanted === 'string') return wanted;
  if (text.startsWith('@')) return setSpecialPermissions(core, request, text, wanted);
  const path = core.resolve(connection, text);
  if (path === undefined) return 'EINVAL';
  const node = getNode(core, request, path, WRITE | OWNER);
  if (typeof node === 'string') return node;
  if (!connection.privileged && wanted.owner !== node.permissions.owner) return 'EPERM';
  const problem = writePermissions(core, request, path, node, settled(wanted, core.tree.generation + 1, core.domains));
  if (problem === undefined) core.acknowledge(request);
  return problem;
}

/** Entries for domains that do not exist are kept and ignored; the owner must exist. */
function requestedPermissions(core: StoreCore, texts: readonly string[]): NodePermissions | DaemonError {
  const entries = parseEntries(texts);
  if (entries === undefined) return 'EINVAL';
  const known = entries.map((entry) => (!isKnown(core, entry.domid) ? { ...entry, ignored: true } : entry));
  if (known[0]?.ignored === true) return 'ENOENT';
  return new NodePermissions(known);
}

function isKnown(core: StoreCore, domid: number): boolean {
  if (domid === DOMID_ANY && core.rules.features) return true;
  return core.domains.ensure(domid, core.tree.generation) !== undefined;
}

function setSpecialPermissions(
  core: StoreCore,
  request: Request,
  name: string,
  wanted: NodePermissions,
): DaemonError | undefined {
  const current = specialPermissions(core, name);
  if (current === undefined) return core.rules.features ? 'ENOENT' : 'EINVAL';
  const need = WRITE | OWNER;
  if ((rightsOf(request.connection, current, Number.POSITIVE_INFINITY, core.domains) & need) !== need) return 'EACCES';
  core.special[name as SpecialName] = wanted;
  if (core.rules.features) fireForSpecialPermissions(core, name as SpecialName, current);
  core.acknowledge(request);
  return undefined;
}
