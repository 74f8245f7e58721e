/**
 * Whether a channel may have its path in dom0: nobody else has it in xenstore, and nothing stands there that is
 * somebody's property. Reads; writes one node, to be seen by others who read.
 */
import { lstat, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { backendsPath, domainPath, KEY } from '../console/layout.js';
import type { ChannelSpec } from '../console/spec.js';
import { parseDomid } from './domains.js';
import { mapBounded } from './environment.js';
import { isListening } from './listening.js';

export interface PathClaim {
  readonly path: string;
  /** It is the place that only this domain's channel of this name has. */
  readonly ownPlace: boolean;
  readonly backendDomid: number;
  /** Ids of former lives of the domain: what stands below them is in nobody's way. */
  readonly formerDomids: readonly number[];
}

/**
 * Written by each attach to a path that the admin chose, read by each attach to a channel's own place.
 *
 * C xenstored refuses a commit when any node that the transaction read has changed, and a directory changes with its
 * children (xen:tools/xenstored/transaction.c, access_node). If every attach read the paths of all domains in its
 * transaction, a hundred at once would refuse each other for nothing. So only attaches to chosen paths do:
 * - Of two of those at one path, the second to commit has read a directory in which the first made nodes.
 * - Two channels' own places differ, as they contain domain and name, and names are compared in the transaction.
 * - Of one each: if the own place is committed first, the other has read its directory, as above. If the chosen path is
 *   committed first, either this node was read before, and the transaction is lost, or the paths are read afterwards.
 */
export const CHOSEN_PATH = '/tool/xenchannel/chosen-path';

/** Part of the transaction that takes the path. */
export async function announceChosenPath(tx: StoreOperations, { path, ownPlace }: PathClaim): Promise<void> {
  if (!ownPlace) await tx.write(CHOSEN_PATH, path);
}

/** Two servers at one path steal it from each other, whatever domains they serve (qemu:util/qemu-sockets.c unlinks it). */
export async function checkPathHasNoOwner(
  tx: StoreOperations,
  store: StoreOperations,
  { path, ownPlace, backendDomid, formerDomids }: PathClaim,
): Promise<void> {
  if (ownPlace) await tx.exists(CHOSEN_PATH); // before the paths are read, see above
  const reader = ownPlace ? store : tx;
  const backends = backendsPath(backendDomid);
  const domids = (await reader.tryDirectory(backends)).filter((text) => {
    const domid = parseDomid(text);
    return domid !== undefined && !formerDomids.includes(domid);
  });
  const wanted = resolve('/', path);
  await mapBounded(domids, async (domid) => {
    for (const deviceId of await reader.tryDirectory(`${backends}/${domid}`)) {
      const taken = await reader.tryReadText(`${backends}/${domid}/${deviceId}/path`);
      if (taken === undefined || resolve('/', taken) !== wanted) continue;
      // A channel that connects there is a client, not an owner.
      if ((await reader.tryReadText(`${backends}/${domid}/${deviceId}/${KEY.connect}`)) === '1') continue;
      // What a domain that is gone has left behind serves nobody.
      if (!(await reader.exists(domainPath(Number(domid))))) continue;
      throw new ChannelError(
        'path-in-use',
        `console ${deviceId.slice(0, 10)} of domain ${domid} already has the socket path ${path}`,
        { path, domid: Number(domid), deviceId: Number(deviceId) },
      );
    }
  });
}

/** A socket that nobody serves may be replaced by the daemon; anything else at the path is somebody's property. */
export async function checkPathIsFree(path: string, spec: ChannelSpec, runDirectory: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    if (error.code === 'ENOTDIR') throw notASocket(path, 'part of it is no directory');
    throw new ChannelError('permission-denied', `cannot look at ${path}: ${error.code}`, { path }, { cause: error });
  });
  if (found === undefined) {
    if (!path.startsWith(`${runDirectory}/`)) await checkDirectory(dirname(path));
    return;
  }
  // Our daemon takes no path from anybody; QEMU unlinks what it finds there and binds.
  if (spec.backend === 'qemu' && found.isSocket() && (await isListening(path))) {
    throw new ChannelError('path-in-use', `a program listens at ${path} already`, { path });
  }
  if (spec.connection === 'socket' ? found.isSocket() : found.isSymbolicLink()) return;
  throw notASocket(path, 'something else stands there');
}

/** The daemon makes directories below its own only: it must not be a way to make them anywhere. */
async function checkDirectory(directory: string): Promise<void> {
  const found = await stat(directory).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  throw new ChannelError('path-illegal', `the directory ${directory} does not exist: make it first`, { directory });
}

function notASocket(path: string, why: string): ChannelError {
  return new ChannelError('path-not-a-socket', `${path} cannot be used for a channel: ${why}, and is left alone`, {
    path,
  });
}
