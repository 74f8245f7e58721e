/**
 * The consoles of a domain as dom0 may believe them: configuration from the backend directory and the toolstack's
 * copy, the frontend for its state only (design D5). Reads; never writes; every node may vanish between two reads.
 */

import { isXenstoreError } from '../../xenstore/errors.js';
import type { Permission, StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import {
  backendPath,
  backendsPath,
  type ChannelAddress,
  frontendPath,
  frontendsPath,
  KEY,
  libxlPath,
  NATIVE_TYPE,
} from '../console/layout.js';
import { channelNameProblem, printable } from '../console/name.js';
import { DEFAULT_LIMIT_BYTES, MAX_LIMIT_BYTES } from '../console/spec.js';
import { parseXenbusState, XENBUS, type XenbusState } from '../console/xenbus-state.js';
import { type Domain, describeDomain } from './domains.js';
import { mapBounded } from './environment.js';

/** Who serves the ring: our daemon, a QEMU that we asked to, or whoever the toolstack chose. */
export type Server = 'native' | 'qemu' | 'toolstack';

export interface ChannelRecord extends ChannelAddress {
  /** Absent: a console without a name, which is no channel. */
  readonly name: string | undefined;
  readonly connection: string | undefined;
  readonly path: string | undefined;
  /** The daemon is the client of a server at the path. */
  readonly connects: boolean;
  readonly limitBytes: number;
  readonly server: Server;
  readonly online: boolean;
  readonly frontendState: XenbusState | undefined;
  readonly backendState: XenbusState | undefined;
  readonly hasFrontend: boolean;
  readonly hasBackend: boolean;
  readonly hasToolstackCopy: boolean;
}

/** More consoles than any domain can use; what is beyond is left out, and said. */
export const MAX_CONSOLES_PER_DOMAIN = 1024;

export interface ConsoleIds {
  readonly ids: readonly number[];
  /** How many were left out. */
  readonly leftOut: number;
}

/** Every device id that the frontend, the backend or the toolstack's copy knows, primary console excluded, ascending. */
export async function consoleIds(store: StoreOperations, domid: number, backendDomid: number): Promise<ConsoleIds> {
  const lists = await Promise.all(
    [frontendsPath(domid), `${backendsPath(backendDomid)}/${domid}`, libxlParent(domid)].map((path) =>
      store.tryDirectory(path),
    ),
  );
  const ids = [...new Set(lists.flat().filter(isDeviceId).map(Number))].sort((a, b) => a - b);
  return { ids: ids.slice(0, MAX_CONSOLES_PER_DOMAIN), leftOut: Math.max(0, ids.length - MAX_CONSOLES_PER_DOMAIN) };
}

const libxlParent = (domid: number): string => libxlPath(domid, 0).replace(/\/0$/, '');
const isDeviceId = (text: string): boolean => /^[1-9]\d{0,8}$/.test(text);

/** All channels of a domain, by device id. */
export async function readChannels(
  store: StoreOperations,
  domid: number,
  backendDomid: number,
): Promise<{ channels: ChannelRecord[]; leftOut: number }> {
  const { ids, leftOut } = await consoleIds(store, domid, backendDomid);
  const records = await mapBounded(ids, (deviceId) => readConsole(store, { domid, deviceId, backendDomid }));
  return { channels: records.filter((record) => record?.name !== undefined) as ChannelRecord[], leftOut };
}

/** One console, or undefined when nothing is left of it. */
export async function readConsole(store: StoreOperations, hint: ChannelAddress): Promise<ChannelRecord | undefined> {
  const { domid, deviceId } = hint;
  const libxl = await readKeys(store, libxlPath(domid, deviceId), ['backend', ...BACKEND_KEYS]);
  const address = { domid, deviceId, backendDomid: backendDomidOf(hint, libxl?.['backend']) };
  const [backend, frontend] = await Promise.all([
    readKeys(store, backendPath(address), BACKEND_KEYS),
    readKeys(store, frontendPath(domid, deviceId), ['state']),
  ]);
  if (libxl === undefined && backend === undefined && frontend === undefined) return undefined;
  const config = { ...libxl, ...backend };
  return {
    ...address,
    name: config['name'],
    connection: config['connection'],
    path: config['path'],
    connects: config[KEY.connect] === '1',
    limitBytes: parseLimit(config[KEY.limit]),
    server: await serverOf(store, address, { libxl, backend }),
    online: backend?.['online'] === '1',
    frontendState: parseXenbusState(frontend?.['state']),
    backendState: parseXenbusState(backend?.['state']),
    hasFrontend: frontend !== undefined,
    hasBackend: backend !== undefined,
    hasToolstackCopy: libxl !== undefined,
  };
}

type Keys = Readonly<Record<string, string | undefined>>;

const BACKEND_KEYS = ['name', 'connection', 'path', 'online', 'state', KEY.limit, KEY.backend, KEY.connect];

/** The present ones of `keys`; undefined when the directory itself is absent. */
async function readKeys(store: StoreOperations, directory: string, keys: readonly string[]): Promise<Keys | undefined> {
  const values = await Promise.all(keys.map((key) => store.tryReadText(`${directory}/${key}`)));
  const present = keys.flatMap((key, index) => (values[index] === undefined ? [] : [[key, values[index]] as const]));
  if (present.length === 0 && !(await store.exists(directory))) return undefined;
  return Object.fromEntries(present);
}

/** A driver domain's backend is found through the toolstack's copy, which only dom0 can write. */
function backendDomidOf({ domid, deviceId, backendDomid }: ChannelAddress, path: string | undefined): number {
  const match = /^\/local\/domain\/(\d{1,5})\/backend\/console\/(\d+)\/(\d+)$/.exec(path ?? '');
  return match !== null && Number(match[2]) === domid && Number(match[3]) === deviceId
    ? Number(match[1])
    : backendDomid;
}

function parseLimit(text: string | undefined): number {
  const limit = text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : DEFAULT_LIMIT_BYTES;
  return limit > 0 && limit <= MAX_LIMIT_BYTES ? limit : DEFAULT_LIMIT_BYTES;
}

/**
 * Ours is what says so in a place only dom0 can write: our key, a frontend `type` that dom0 owns, or a copy that began
 * at InitWait, where libxl's always begins at Initialising (design D22).
 */
async function serverOf(
  store: StoreOperations,
  address: ChannelAddress,
  { libxl, backend }: { libxl: Keys | undefined; backend: Keys | undefined },
): Promise<Server> {
  if ((backend?.[KEY.backend] ?? libxl?.[KEY.backend]) === 'qemu') return 'qemu';
  const type = await readUnforged(store, `${frontendPath(address.domid, address.deviceId)}/type`, address.domid);
  if (type !== undefined) return type === NATIVE_TYPE ? 'native' : 'toolstack';
  return libxl?.['state'] === String(XENBUS['init-wait']) ? 'native' : 'toolstack';
}

/** The value of a node in a frontend, provided that the guest `domid` cannot have written it. */
export async function readUnforged(store: StoreOperations, path: string, domid: number): Promise<string | undefined> {
  try {
    const [owner, ...others] = await store.getPermissions(path);
    const guestWrites = others.some((entry) => entry.domid === domid && writes(entry));
    if (owner.domid === domid || writes(owner) || guestWrites) return undefined;
    return await store.tryReadText(path);
  } catch (error) {
    if (isXenstoreError(error, 'ENOENT')) return undefined;
    throw error;
  }
}

const writes = ({ access }: Permission): boolean => access === 'w' || access === 'b';

/** The one channel with this name, or with this name and device id. Throws `channel-not-found`, `channel-ambiguous`. */
export function pickChannel(
  channels: readonly ChannelRecord[],
  { domain, name, deviceId }: { domain: Domain; name: string; deviceId?: number | undefined },
): ChannelRecord {
  const matches = channels.filter(
    (channel) => channel.name === name && (deviceId === undefined || channel.deviceId === deviceId),
  );
  const [first, ...others] = matches;
  const who = describeDomain(domain);
  if (first === undefined) {
    const at = deviceId === undefined ? '' : ` with device id ${deviceId}`;
    throw new ChannelError('channel-not-found', `domain ${who} has no channel ${printable(name)}${at}`, {
      domid: domain.domid,
      name: name.slice(0, 255),
    });
  }
  if (others.length > 0) {
    const ids = matches.map((channel) => channel.deviceId);
    throw new ChannelError(
      'channel-ambiguous',
      `domain ${who} has ${matches.length} channels called ${printable(name)}, with device ids ${ids.join(', ')}; say which with --device-id`,
      { domid: domain.domid, deviceIds: ids },
    );
  }
  return first;
}

export function channelWent(domain: Domain, name: string): ChannelError {
  const label = `channel ${printable(name)} of domain ${describeDomain(domain)}`;
  return new ChannelError('channel-not-found', `${label} went while it was waited for`, { domid: domain.domid });
}

/** Why the name of a channel that another toolstack made is none we would give. */
export const nameProblemOf = (channel: ChannelRecord): string | undefined =>
  channel.name === undefined ? undefined : channelNameProblem(channel.name);
