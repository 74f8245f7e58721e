/**
 * Which operation is handled where, and who may use it.
 * Source: xen:tools/xenstore/xenstored_core.c (wire_funcs).
 */
import { Op } from '../../wire.js';
import type { StoreCore } from '../core.js';
import type { DaemonError } from '../likeness.js';
import type { Request } from '../request.js';
import { control } from './control.js';
import { getDomainPath, introduce, isDomainIntroduced, release, resume, setTarget } from './domains.js';
import { getFeature, getQuota, setFeature, setQuota } from './features.js';
import { directory, directoryPart, getPermissions, mkdir, read, rm, setPermissions, write } from './nodes.js';
import { transactionEnd, transactionStart } from './transactions.js';
import { resetWatches, unwatch, watch } from './watches.js';

export interface RequestHandler {
  /** Queues the reply, or returns the error to reply with. */
  readonly handle: (core: StoreCore, request: Request) => DaemonError | undefined;
  /** Dom0 only: others get EACCES. */
  readonly privileged?: boolean;
  /** Only daemons of Xen 4.22 and later have it. */
  readonly recent?: boolean;
  /** The transaction id is not looked at. */
  readonly ignoresTransaction?: boolean;
}

/** By operation number; a hole is an operation that the daemon does not have. */
export const HANDLERS: ReadonlyArray<RequestHandler | undefined> = byNumber([
  [Op.Control, { handle: control, privileged: true }],
  [Op.Directory, { handle: directory }],
  [Op.Read, { handle: read }],
  [Op.GetPerms, { handle: getPermissions }],
  [Op.Watch, { handle: watch, ignoresTransaction: true }],
  [Op.Unwatch, { handle: unwatch, ignoresTransaction: true }],
  [Op.TransactionStart, { handle: transactionStart }],
  [Op.TransactionEnd, { handle: transactionEnd }],
  [Op.Introduce, { handle: introduce, privileged: true }],
  [Op.Release, { handle: release, privileged: true }],
  [Op.GetDomainPath, { handle: getDomainPath }],
  [Op.Write, { handle: write }],
  [Op.Mkdir, { handle: mkdir }],
  [Op.Rm, { handle: rm }],
  [Op.SetPerms, { handle: setPermissions }],
  [Op.IsDomainIntroduced, { handle: isDomainIntroduced, privileged: true }],
  [Op.Resume, { handle: resume, privileged: true }],
  [Op.SetTarget, { handle: setTarget, privileged: true }],
  [Op.ResetWatches, { handle: resetWatches }],
  [Op.DirectoryPart, { handle: directoryPart }],
  [Op.GetFeature, { handle: getFeature, recent: true }],
  [Op.SetFeature, { handle: setFeature, privileged: true, recent: true }],
  [Op.GetQuota, { handle: getQuota, privileged: true, recent: true }],
  [Op.SetQuota, { handle: setQuota, privileged: true, recent: true }],
]);

function byNumber(entries: ReadonlyArray<readonly [number, RequestHandler]>): Array<RequestHandler | undefined> {
  const table: Array<RequestHandler | undefined> = [];
  for (const [op, handler] of entries) table[op] = handler;
  return table;
}
