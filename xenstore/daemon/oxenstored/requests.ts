/**
 * What each request means to oxenstored. A handler returns the answer, or nothing for OK, or throws a Refusal.
 * Source: xen:tools/ocaml/xenstored/process.ml (do_read and its neighbours).
 */
import { Op } from '../../wire.js';
import type { Connection } from '../connection.js';
import { dropWatches } from '../lifecycle.js';
import type { Watch } from '../watches.js';
import { levelsOf } from '../watches.js';
import type { OxMachine } from './machine.js';
import { refusal } from './refusal.js';
import { isDom0 } from './rights.js';
import type { OxTransaction } from './transaction.js';
import {
  integer,
  isAbsolute,
  looseInteger,
  type Parts,
  parsePermissions,
  partsOf,
  permissionText,
  resolve,
  split,
} from './words.js';

export interface OxRequest {
  readonly machine: OxMachine;
  readonly connection: Connection;
  readonly transaction: OxTransaction;
  readonly data: string;
}

export type OxHandler = (request: OxRequest) => string | undefined;

const DOMID_SELF = 0x7ff0;

function pathOf({ machine, connection }: OxRequest, text: string): Parts {
  return resolve(text, connection.base, machine.core.quotas['path-max']);
}

/** The path that is all the payload. */
function onlyPath(request: OxRequest): Parts {
  const [text = '', rest] = split(request.data, 2);
  if (rest !== '') throw refusal('EINVAL');
  return pathOf(request, text);
}

function actorOf({ machine, connection }: OxRequest) {
  return machine.actorOf(connection);
}

function directory(request: OxRequest): string {
  const { children } = request.transaction.read(actorOf(request), onlyPath(request));
  return children === undefined
    ? ''
    : [...children.keys()]
        .sort()
        .map((name) => `${name}\0`)
        .join('');
}

function read(request: OxRequest): string {
  return request.transaction.read(actorOf(request), onlyPath(request)).value;
}

function getPermissions(request: OxRequest): string {
  return permissionText(request.transaction.read(actorOf(request), onlyPath(request)).permissions);
}

function write(request: OxRequest): undefined {
  const [text = '', value] = split(request.data, 2);
  if (value === undefined) throw refusal('EINVAL');
  const parts = pathOf(request, text);
  request.transaction.makeParents(actorOf(request), parts);
  request.transaction.write(actorOf(request), parts, value);
}

function mkdir(request: OxRequest): undefined {
  const parts = onlyPath(request);
  request.transaction.makeParents(actorOf(request), parts);
  request.transaction.mkdir(actorOf(request), parts);
}

function rm(request: OxRequest): undefined {
  request.transaction.rm(actorOf(request), onlyPath(request));
}

function setPermissions(request: OxRequest): undefined {
  const [text = '', permissions] = split(request.data, 2);
  if (permissions === undefined) throw refusal('EINVAL');
  const parsed = parsePermissions(permissions);
  request.transaction.setPermissions(actorOf(request), pathOf(request, text), parsed);
}

function getDomainPath({ data }: OxRequest): string {
  const [domid = '', rest, ...more] = split(data);
  if (rest !== '' || more.length > 0) throw refusal('EINVAL');
  return `/local/domain/${looseInteger(domid)}\0`;
}

/** What may be a request of a transaction, and so may be made again when it ends. */
export const SIMPLE: ReadonlyMap<number, OxHandler> = new Map<number, OxHandler>([
  [Op.Directory, directory],
  [Op.Read, read],
  [Op.GetPerms, getPermissions],
  [Op.GetDomainPath, getDomainPath],
  [Op.Write, write],
  [Op.Mkdir, mkdir],
  [Op.Rm, rm],
  [Op.SetPerms, setPermissions],
]);

function control(request: OxRequest): string | undefined {
  if (!isDom0(actorOf(request))) return undefined;
  const { machine, data } = request;
  const [command, argument = '', ...more] = split(data);
  // Everything else, and every mistake, is answered with OK.
  if (command === 'quota' && more.length + 1 > 0 && data.includes('\0')) return quotaText(machine, argument);
  if (command === 'watches' && data.includes('\0')) return `${watchesText(machine)}\0`;
  return undefined;
}

function quotaText({ core, store }: OxMachine, argument: string): string | undefined {
  try {
    const domid = integer(argument);
    const nodes = store.owned.get(domid);
    return `dom${domid} quota: ${nodes === undefined ? 'not set' : `${nodes}/${core.quotas.nodes}`}\0`;
  } catch {
    return undefined;
  }
}

function watchesText({ core }: OxMachine): string {
  const lines = [...core.connections].flatMap((connection) => {
    const name = connection.domain === undefined ? `A${connection.sequence}` : `D${connection.domid}`;
    return [...connection.watches.values()].map(
      ({ path, token, hiddenBytes }) => `watch ${name}: ${path.slice(hiddenBytes)} ${token}\n`,
    );
  });
  return lines.join('');
}

function watchWords({ connection, data }: OxRequest): { path: string; token: string; hiddenBytes: number } {
  const [text = '', token, end, ...more] = split(data);
  if (token === undefined || end !== '' || more.length > 0 || text === '') throw refusal('EINVAL');
  const absolute = isAbsolute(text);
  return { path: absolute ? text : connection.base + text, token, hiddenBytes: absolute ? 0 : connection.base.length };
}

/** Where the answer is sent the watch is told once of itself. */
export function watch(request: OxRequest): Watch {
  const { machine, connection } = request;
  const { path, token, hiddenBytes } = watchWords(request);
  partsOf(path);
  const { core } = machine;
  const count = connection.domain?.watches ?? 0;
  if (!isDom0(actorOf(request)) && count > core.quotas.watches) throw refusal('EQUOTA');
  const key = `${path}\0${token}`;
  if (connection.watches.has(key)) throw refusal('EEXIST');
  const sequence = core.watches.nextSequence();
  const made: Watch = { connection, path, token, hiddenBytes, depth: undefined, levels: levelsOf(path), sequence };
  connection.watches.set(key, made);
  core.watches.add(made);
  if (connection.domain !== undefined) connection.domain.watches++;
  return made;
}

function unwatch(request: OxRequest): undefined {
  const { machine, connection } = request;
  const { path, token } = watchWords(request);
  const key = `${path}\0${token}`;
  const known = connection.watches.get(key);
  if (known === undefined) throw refusal('ENOENT');
  connection.watches.delete(key);
  machine.core.watches.remove(known);
  if (connection.domain !== undefined) connection.domain.watches--;
}

function resetWatches({ machine, connection }: OxRequest): undefined {
  dropWatches(machine.core, connection);
  machine.dropTransactions(connection);
}

function demandDom0(request: OxRequest): void {
  if (!isDom0(actorOf(request))) throw refusal('EACCES');
}

function introduce(request: OxRequest): undefined {
  demandDom0(request);
  const [domidText = '', gfnText, portText] = split(request.data);
  if (gfnText === undefined || portText === undefined) throw refusal('EINVAL');
  const port = integer(portText);
  const gfn = pageNumber(gfnText);
  request.machine.introduce(integer(domidText), { gfn, port });
}

/** Its exception is not among those that have an answer. */
function pageNumber(text: string): number {
  try {
    return integer(text);
  } catch {
    throw refusal('EIO');
  }
}

function release(request: OxRequest): undefined {
  demandDom0(request);
  const [domid = '', end, ...more] = split(request.data);
  if (end !== '' || more.length > 0) throw refusal('EINVAL');
  request.machine.release(integer(domid));
}

function resume(request: OxRequest): undefined {
  demandDom0(request);
  const domain = request.machine.core.domains.introduced(integer(split(request.data)[0] ?? ''));
  if (domain === undefined) throw refusal('EINVAL');
  domain.shutdown = false;
}

function setTarget(request: OxRequest): undefined {
  demandDom0(request);
  const [domidText = '', targetText = '', end, ...more] = split(request.data);
  if (end !== '' || more.length > 0) throw refusal('EINVAL');
  const domid = looseInteger(domidText);
  const { core, targets } = request.machine;
  if (core.domains.introduced(domid) === undefined) throw refusal('ENOENT');
  // The target need not exist, and sockets of dom0 are nobody's ring.
  if (domid !== 0) targets.set(domid, looseInteger(targetText));
}

function isDomainIntroduced(request: OxRequest): string {
  demandDom0(request);
  const domid = integer(split(request.data)[0] ?? '');
  const known = domid === DOMID_SELF || request.machine.core.domains.introduced(domid) !== undefined;
  return known ? 'T\0' : 'F\0';
}

/** What is not made again; WATCH and the two transaction requests have their own place. */
export const OTHERS: ReadonlyMap<number, OxHandler> = new Map<number, OxHandler>([
  [Op.Control, control],
  [Op.Unwatch, unwatch],
  [Op.Introduce, introduce],
  [Op.Release, release],
  [Op.IsDomainIntroduced, isDomainIntroduced],
  [Op.Resume, resume],
  [Op.SetTarget, setTarget],
  [Op.ResetWatches, resetWatches],
]);
