/**
 * The channels of one domain or of all, from xenstore alone: works while no daemon runs, and shows what other toolstacks
 * made. Claims of the guest are marked as such.
 */
import type { StoreOperations } from '../../xenstore/index.js';
import { frontendPath, KEY } from '../console/layout.js';
import { type ChannelRecord, nameProblemOf, readChannels, readUnforged, type Server } from './channels.js';
import { type Domain, listDomains, resolveDomain } from './domains.js';
import { type Dom0Environment, mapBounded } from './environment.js';
import { listMissing, type MissingChannel } from './wanted.js';

export interface ListedChannel {
  readonly domid: number;
  readonly domain: string | null;
  readonly uuid: string | null;
  readonly deviceId: number;
  readonly backendDomid: number;
  readonly name: string;
  /** Why we would not give this name; then no path or link is made of it. */
  readonly nameProblem: string | null;
  readonly connection: string | null;
  readonly path: string | null;
  readonly limitBytes: number;
  readonly server: Server;
  readonly online: boolean;
  /** Both ends are connected. */
  readonly connected: boolean;
  readonly frontendState: string | null;
  readonly backendState: string | null;
  /** A client is connected in dom0, as the daemon says. */
  readonly hostOpen: boolean;
  /** The guest says that it holds the channel open. Not verified. */
  readonly guestClaimsOpen: boolean;
  /** `frontend`, `backend`, `toolstack`: directories that should be there and are not. */
  readonly missing: readonly string[];
}

export interface Listing {
  readonly channels: readonly ListedChannel[];
  /** Consoles beyond the limit for one domain. */
  readonly leftOut: number;
  /** Recorded, and not attached. */
  readonly wanted: readonly MissingChannel[];
  /** Records that cannot be read. */
  readonly recordProblems: readonly string[];
}

/** All channels, by domain and device id; `domain` (id, name or uuid) restricts them to one. */
export async function list(store: StoreOperations, env: Dom0Environment, domain?: string): Promise<Listing> {
  const domains = domain === undefined ? await listDomains(store) : [await resolveDomain(store, domain)];
  const channels: ListedChannel[] = [];
  let leftOut = 0;
  // One domain after the other: the reads within a domain run side by side already.
  for (const one of domains) {
    const found = await readChannels(store, one.domid, env.backendDomid);
    leftOut += found.leftOut;
    channels.push(...(await mapBounded(found.channels, (channel) => describe(store, one, channel))));
  }
  const { missing, problems } = await listMissing(store, env, domain === undefined ? undefined : domains[0]);
  return { channels, leftOut, wanted: missing, recordProblems: problems };
}

async function describe(store: StoreOperations, domain: Domain, channel: ChannelRecord): Promise<ListedChannel> {
  const frontend = frontendPath(channel.domid, channel.deviceId);
  const [hostOpen, guestOpen] = await Promise.all([
    readUnforged(store, `${frontend}/${KEY.hostOpen}`, channel.domid),
    store.tryReadText(`${frontend}/${KEY.guestOpen}`),
  ]);
  return {
    domid: channel.domid,
    domain: domain.name ?? null,
    uuid: domain.uuid ?? null,
    deviceId: channel.deviceId,
    backendDomid: channel.backendDomid,
    name: channel.name ?? '',
    nameProblem: nameProblemOf(channel) ?? null,
    connection: channel.connection ?? null,
    path: channel.path ?? null,
    limitBytes: channel.limitBytes,
    server: channel.server,
    online: channel.online,
    connected: channel.frontendState === 'connected' && channel.backendState === 'connected',
    frontendState: channel.frontendState ?? null,
    backendState: channel.backendState ?? null,
    hostOpen: hostOpen === '1',
    guestClaimsOpen: guestOpen === '1',
    missing: [
      ...(channel.hasFrontend ? [] : ['frontend']),
      ...(channel.hasBackend ? [] : ['backend']),
      ...(channel.hasToolstackCopy ? [] : ['toolstack']),
    ],
  };
}
