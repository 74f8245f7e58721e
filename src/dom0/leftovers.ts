/**
 * What a domain that is gone has left of a channel: a toolstack that has no record of it removes the domain and forgets
 * the backend (seen on Xen 4.17), and the next domain with this id would find it. Nobody is left to shake hands with.
 */
import type { Store, StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { backendPath, domainPath, frontendPath, KEY, libxlPath } from '../console/layout.js';
import { printable } from '../console/name.js';
import { type ChannelRecord, pickChannel, readChannels } from './channels.js';
import { type Domain, parseDomid } from './domains.js';
import type { Dom0Environment } from './environment.js';
import { pruneParents, removeIfThere } from './prune.js';

export interface LeftoverRequest {
  /** Only ids lead to domains that are gone. */
  readonly domain: string;
  readonly name: string;
  readonly deviceId?: number | undefined;
  /** Also what does not look like ours. */
  readonly force: boolean;
}

export interface Leftover {
  readonly domain: Domain;
  readonly channel: ChannelRecord;
}

/** Removes it in one step; undefined when there is nothing of this domain. Throws `channel-not-found`, `not-ours`. */
export function removeLeftover(
  store: Store,
  request: LeftoverRequest,
  env: Dom0Environment,
): Promise<Leftover | undefined> {
  const domid = parseDomid(request.domain);
  if (domid === undefined || domid === 0) return Promise.resolve(undefined);
  const domain: Domain = { domid, name: undefined, uuid: undefined };
  return store.transaction(async (tx) => {
    // Within the transaction: a new domain with this id makes it fail, and is seen when it is tried again.
    if (await tx.exists(domainPath(domid))) return undefined;
    const { channels } = await readChannels(tx, domid, env.backendDomid);
    if (channels.length === 0) return undefined;
    const channel = pickChannel(channels, { domain, name: request.name, deviceId: request.deviceId });
    if (!request.force && !(await looksLikeOurs(tx, channel, env))) throw foreign(channel, request.name);
    await removeIfThere(tx, frontendPath(domid, channel.deviceId));
    await removeIfThere(tx, backendPath(channel));
    await removeIfThere(tx, libxlPath(domid, channel.deviceId));
    await pruneParents(tx, channel);
    return { domain, channel };
  });
}

/** The frontend, which says it for certain, is gone with its domain. */
async function looksLikeOurs(tx: StoreOperations, channel: ChannelRecord, env: Dom0Environment): Promise<boolean> {
  if (channel.server !== 'toolstack') return true;
  if (channel.path?.startsWith(`${env.runDirectory}/`) === true) return true;
  const keys = await tx.tryDirectory(backendPath(channel));
  return Object.values<string>(KEY).some((key) => keys.includes(key));
}

function foreign({ domid, deviceId }: ChannelRecord, name: string): ChannelError {
  return new ChannelError(
    'not-ours',
    `domain ${domid} is gone, and what is left of its channel ${printable(name)} does not look like ours; --force removes it all the same`,
    { domid, deviceId },
  );
}
