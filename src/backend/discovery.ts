/**
 * Which backends of this domain are ours to serve, and how: everything is taken from nodes the guest cannot write.
 * Reads only; knows no ring.
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Permissions, Store, StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import type { OverflowPolicy } from '../chardev/spool.js';
import {
  backendPath,
  type ChannelAddress,
  defaultPath,
  domainPath,
  frontendPath,
  KEY,
  libxlPath,
  NATIVE_TYPE,
} from '../console/layout.js';
import { type ChannelName, parseChannelName, printable } from '../console/name.js';
import {
  type Connection,
  checkLogPath,
  checkSocketPath,
  DEFAULT_LIMIT_BYTES,
  LOG_SIZE_BYTES,
  type LogSpec,
  MAX_LIMIT_BYTES,
  MAX_LOGS_KEPT,
  MIN_LIMIT_BYTES,
} from '../console/spec.js';
import { parseXenbusState, XENBUS, type XenbusState } from '../console/xenbus-state.js';

/** Linux reads one digit of the device id, and 0 is the primary console. */
export const FIRST_DEVICE_ID = 1;
export const LAST_DEVICE_ID = 9;

export interface ChannelConfig extends ChannelAddress {
  readonly name: ChannelName;
  /** Of the domain; undefined where the toolstack wrote none. */
  readonly uuid: string | undefined;
  readonly connection: Connection;
  readonly path: string;
  readonly mode: number | undefined;
  readonly owner: string | undefined;
  readonly group: string | undefined;
  readonly limitBytes: number;
  readonly overflow: OverflowPolicy;
  readonly speakFirst: boolean;
  /** The daemon is the client of the socket at `path`. */
  readonly connect: boolean;
  readonly log: LogSpec | undefined;
}

export type Finding =
  /** There is no such backend (any more). */
  | { readonly kind: 'absent' }
  /** Somebody else's: libxl's own channels, QEMU's, the primary console. */
  | { readonly kind: 'foreign' }
  /** Ours, but not to be served as it stands. */
  | { readonly kind: 'refused'; readonly error: ChannelError }
  | { readonly kind: 'ours'; readonly config: ChannelConfig; readonly backendState: XenbusState | undefined };

const BACKEND_KEYS = [
  'frontend',
  'frontend-id',
  'state',
  'name',
  'connection',
  'path',
  KEY.backend,
  KEY.mode,
  KEY.owner,
  KEY.group,
  KEY.limit,
  KEY.overflow,
  KEY.speakFirst,
  KEY.connect,
  KEY.log,
  KEY.logSize,
  KEY.logKeep,
  KEY.logTimestamps,
] as const;

type BackendKeys = Readonly<Partial<Record<(typeof BACKEND_KEYS)[number], string>>>;

/** Looks at one backend directory. */
export async function inspectBackend(
  store: StoreOperations,
  address: ChannelAddress,
  runDirectory: string,
): Promise<Finding> {
  const { deviceId } = address;
  if (deviceId < FIRST_DEVICE_ID || deviceId > LAST_DEVICE_ID) return { kind: 'foreign' };
  const directory = backendPath(address);
  // All at once: a guest is waiting, and what turns out not to be needed costs less than a round trip.
  const [values, markedOurs, uuid] = await Promise.all([
    Promise.all(BACKEND_KEYS.map((key) => store.tryReadText(`${directory}/${key}`))),
    isMarkedOurs(store, address),
    readDomainUuid(store, address.domid),
  ]);
  const keys: BackendKeys = Object.fromEntries(
    BACKEND_KEYS.flatMap((key, index) => (values[index] === undefined ? [] : [[key, values[index]]])),
  );
  if (Object.keys(keys).length === 0) return { kind: 'absent' };
  const forOther = keys[KEY.backend] !== undefined && keys[KEY.backend] !== 'native';
  if (forOther || !markedOurs) return { kind: 'foreign' };
  try {
    const config = parseConfig(address, keys, uuid, runDirectory);
    return { kind: 'ours', config, backendState: parseXenbusState(keys.state) };
  } catch (error) {
    if (error instanceof ChannelError) return { kind: 'refused', error };
    throw error;
  }
}

/** From `/local/domain/D/vm`, which holds `/vm/UUID`; both belong to the toolstack. */
export async function readDomainUuid(store: StoreOperations, domid: number): Promise<string | undefined> {
  const vm = await store.tryReadText(`${domainPath(domid)}/vm`);
  return /^\/vm\/([0-9a-fA-F-]{36})$/.exec(vm ?? '')?.[1]?.toLowerCase();
}

/** A driver domain may not ask: then the tree alone tells. */
export async function isDomainAlive(store: Store, domid: number): Promise<boolean> {
  try {
    return await store.isDomainIntroduced(domid);
  } catch (error) {
    if (isXenstoreError(error, 'EACCES')) return true;
    throw error;
  }
}

/**
 * Whether it still is the channel that is served. Limits, modes and owners count from the next attach on: a channel is
 * not torn down for them.
 */
export function isSameChannel(a: ChannelConfig, b: ChannelConfig): boolean {
  const end = ({ connection, connect, path, log }: ChannelConfig): string =>
    `${connection} ${connect} ${path} ${log?.path}`;
  return a.uuid === b.uuid && a.name === b.name && end(a) === end(b);
}

/**
 * A native attach makes the frontend with a `type` of its own, not writable for the guest. A guest may delete its whole
 * frontend, but never a single key in it, and cannot make another; then the toolstack's copy decides, which a native
 * attach begins at InitWait, where libxl begins at Initialising (design D22).
 */
async function isMarkedOurs(store: StoreOperations, address: ChannelAddress): Promise<boolean> {
  const typePath = `${frontendPath(address.domid, address.deviceId)}/type`;
  const [permissions, type, copy] = await Promise.all([
    store.getPermissions(typePath).catch((error: unknown) => {
      if (isXenstoreError(error, 'ENOENT', 'EACCES')) return undefined;
      throw error;
    }),
    readOrAbsent(store, typePath),
    readOrAbsent(store, `${libxlPath(address.domid, address.deviceId)}/state`),
  ]);
  if (permissions !== undefined && !isGuestWritable(permissions, address)) return type === NATIVE_TYPE;
  return copy === String(XENBUS['init-wait']);
}

/** The owner has every right, so it must be dom0 or the backend's own domain; nobody else may have been let in. */
function isGuestWritable([owner, ...others]: Permissions, { backendDomid }: ChannelAddress): boolean {
  const writes = ({ access }: { access: string }): boolean => access === 'w' || access === 'b';
  if (owner.domid !== 0 && owner.domid !== backendDomid) return true;
  return writes(owner) || others.some((entry) => writes(entry) && entry.domid !== 0 && entry.domid !== backendDomid);
}

/** A driver domain may not read the toolstack's own directory: then it is as good as absent. */
async function readOrAbsent(store: StoreOperations, path: string): Promise<string | undefined> {
  try {
    return await store.tryReadText(path);
  } catch (error) {
    if (isXenstoreError(error, 'EACCES')) return undefined;
    throw error;
  }
}

function parseConfig(
  address: ChannelAddress,
  keys: BackendKeys,
  uuid: string | undefined,
  runDirectory: string,
): ChannelConfig {
  const frontend = frontendPath(address.domid, address.deviceId);
  if (keys.frontend !== frontend || keys['frontend-id'] !== String(address.domid)) {
    throw malformed(address, 'frontend', keys.frontend ?? keys['frontend-id']);
  }
  const name = parseChannelName(keys.name ?? '');
  const connection = keys.connection ?? 'socket';
  if (connection !== 'socket' && connection !== 'pty') throw malformed(address, 'connection', connection);
  const path = keys.path ?? defaultPath(runDirectory, address.domid, name);
  checkSocketPath(path);
  return {
    ...address,
    name,
    uuid,
    connection,
    path,
    mode: parseMode(address, keys[KEY.mode]),
    owner: keys[KEY.owner],
    group: keys[KEY.group],
    limitBytes: parseLimit(address, keys[KEY.limit]),
    overflow: keys[KEY.overflow] === 'drop-newest' ? 'drop-newest' : 'drop-oldest',
    speakFirst: keys[KEY.speakFirst] === '1',
    connect: connection === 'socket' && keys[KEY.connect] === '1',
    log: parseLog(address, keys),
  };
}

function parseMode(address: ChannelAddress, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^0?[0-7]{3}$/.test(text)) throw malformed(address, KEY.mode, text);
  return Number.parseInt(text, 8);
}

function parseLimit(address: ChannelAddress, text: string | undefined): number {
  if (text === undefined) return DEFAULT_LIMIT_BYTES;
  const limit = /^[1-9][0-9]{0,10}$/.test(text) ? Number(text) : 0;
  if (limit < MIN_LIMIT_BYTES || limit > MAX_LIMIT_BYTES) throw malformed(address, KEY.limit, text);
  return limit;
}

function parseLog(address: ChannelAddress, keys: BackendKeys): LogSpec | undefined {
  const path = keys[KEY.log];
  if (path === undefined) return undefined;
  checkLogPath(path);
  const maxBytes = parseCount(address, KEY.logSize, keys, LOG_SIZE_BYTES);
  const keep = parseCount(address, KEY.logKeep, keys, { min: 0, max: MAX_LOGS_KEPT });
  return {
    path,
    ...(maxBytes === undefined ? {} : { maxBytes }),
    ...(keep === undefined ? {} : { keep }),
    timestamps: keys[KEY.logTimestamps] === '1',
  };
}

function parseCount(
  address: ChannelAddress,
  key: typeof KEY.logSize | typeof KEY.logKeep,
  keys: BackendKeys,
  { min, max }: { readonly min: number; readonly max: number },
): number | undefined {
  const text = keys[key];
  if (text === undefined) return undefined;
  const count = /^(0|[1-9][0-9]{0,10})$/.test(text) ? Number(text) : -1;
  if (count < min || count > max) throw malformed(address, key, text);
  return count;
}

function malformed({ domid, deviceId }: ChannelAddress, key: string, value: string | undefined): ChannelError {
  return new ChannelError(
    'backend-malformed',
    `channel ${domid}/${deviceId} is not served: its backend's ${key} is ${printable(value ?? '')}`,
    { domid, deviceId, key },
  );
}
