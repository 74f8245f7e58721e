/**
 * Every path, key, value and permission of a channel in xenstore, in one place. Same as libxl's, apart from what the
 * comments name. Sources: xen:tools/libs/light/libxl_console.c (libxl__device_console_add), libxl_device.c
 * (libxl__device_generic_add); checked against dumps of a genuine Xen in test/console.
 */
import type { Permissions } from '../../xenstore/index.js';
import type { ChannelName } from './name.js';
import { type ChannelSpec, DEFAULT_LIMIT_BYTES } from './spec.js';
import { XENBUS } from './xenbus-state.js';

export interface ChannelAddress {
  readonly domid: number;
  readonly deviceId: number;
  /** The domain whose daemon serves the channel: 0 unless it is a driver domain. */
  readonly backendDomid: number;
}

export const domainPath = (domid: number): string => `/local/domain/${domid}`;
export const frontendsPath = (domid: number): string => `/local/domain/${domid}/device/console`;
export const frontendPath = (domid: number, deviceId: number): string => `${frontendsPath(domid)}/${deviceId}`;
export const backendsPath = (backendDomid: number): string => `/local/domain/${backendDomid}/backend/console`;
export const backendPath = ({ domid, deviceId, backendDomid }: ChannelAddress): string =>
  `${backendsPath(backendDomid)}/${domid}/${deviceId}`;
export const libxlPath = (domid: number, deviceId: number): string => `/libxl/${domid}/device/console/${deviceId}`;

/** Frontend `type` of a channel that our daemon serves; QEMU declines every type but `ioemu` (design D22). */
export const NATIVE_TYPE = 'xenchannel';
export const QEMU_TYPE = 'ioemu';

/**
 * Keys of our own. Frontend keys first: `identify` is written by the guest (design D3), `guestOpen` too (a claim),
 * `hostOpen` by the daemon, read-only for the guest (D9). The others stand in the backend directory, only where the
 * admin asked for other than the default.
 *
 * The daemon serves a backend as its own when KEY.backend does not name another server and the frontend's `type` is
 * NATIVE_TYPE and not writable for the guest; where the guest has deleted its frontend, when `state` in the toolstack's
 * copy is 2. It also wants `frontend`, `frontend-id` and a legal `name`, and treats an absent `online` as a detach.
 */
export const KEY = {
  identify: 'xenchannel-identify',
  guestOpen: 'xenchannel-guest-open',
  hostOpen: 'xenchannel-host-open',
  mode: 'xenchannel-mode',
  owner: 'xenchannel-owner',
  group: 'xenchannel-group',
  /** `limit` itself stands in the frontend, where libxl puts it, but is never read from there. */
  limit: 'xenchannel-limit',
  /** `qemu` where we had the domain's QEMU serve the channel; tells our channel from one of libxl. */
  backend: 'xenchannel-backend',
  /** `drop-newest` where the admin wants the oldest bytes kept when the spool is full; default `drop-oldest`. */
  overflow: 'xenchannel-overflow',
  /** `1` where the host may speak before the guest has (design D15 switched off). */
  speakFirst: 'xenchannel-speak-first',
  /** `1` where the daemon is the client of the socket at `path`, which somebody else serves. */
  connect: 'xenchannel-connect',
  /** The path of a log beside the host end; the other three only where they are not the default. */
  log: 'xenchannel-log',
  logSize: 'xenchannel-log-size',
  logKeep: 'xenchannel-log-keep',
  logTimestamps: 'xenchannel-log-timestamps',
} as const;

/** What the backend puts into the ring to answer a nonce: `XCID <nonce>\n` (design D3). */
export const IDENTIFY_ANSWER_PREFIX = 'XCID ';
/** A nonce is 16 to 64 lower-case hex digits; anything else is deleted unanswered. */
export const NONCE_PATTERN = /^[0-9a-f]{16,64}$/;

export interface NodeWrite {
  readonly path: string;
  readonly value: string;
  readonly permissions: Permissions;
}

/** Permissions of nodes the guest owns, of nodes it may only read, and of the toolstack's private ones. */
export function permissionSets({
  domid,
  backendDomid,
}: ChannelAddress): Record<'guest' | 'readOnly' | 'private', Permissions> {
  return {
    guest: [
      { access: 'n', domid },
      { access: 'r', domid: backendDomid },
    ],
    readOnly: [
      { access: 'n', domid: backendDomid },
      { access: 'r', domid },
    ],
    private: [{ access: 'n', domid: 0 }],
  };
}

/** The default place of a channel's host socket or PTY link below the run directory. */
export function defaultPath(runDirectory: string, domid: number, name: ChannelName): string {
  return `${runDirectory}/dom${domid}/${name}`;
}

/**
 * All nodes of a new channel, in libxl's order: the toolstack's two paths, the frontend, the backend, and the copy of
 * the backend's keys for the toolstack. They belong into one transaction: a guest that sees the frontend before its
 * permissions are right fails to probe, and never tries again (seen on Xen 4.17 with Linux 6.1).
 */
export function channelWrites(address: ChannelAddress, spec: ChannelSpec, resolvedPath: string): NodeWrite[] {
  const { guest, readOnly, private: toolstack } = permissionSets(address);
  const frontend = frontendPath(address.domid, address.deviceId);
  const backend = backendPath(address);
  const libxl = libxlPath(address.domid, address.deviceId);
  const backendEntries = backendKeys(address, spec, resolvedPath);
  return [
    { path: libxl, value: '', permissions: toolstack },
    ...below(libxl, toolstack, [
      ['frontend', frontend],
      ['backend', backend],
    ]),
    { path: frontend, value: '', permissions: guest },
    ...below(frontend, guest, [
      ['backend', backend],
      ['backend-id', String(address.backendDomid)],
      ['state', String(XENBUS.initialising)],
      ['protocol', PROTOCOL],
    ]),
    ...below(frontend, readOnly, [
      ['name', spec.name],
      ['limit', String(spec.limitBytes)],
      ['type', spec.backend === 'native' ? NATIVE_TYPE : QEMU_TYPE],
      ['output', outputOf(spec, address.deviceId)],
      ['tty', ''],
    ]),
    { path: backend, value: '', permissions: readOnly },
    ...below(backend, readOnly, [['frontend', frontend], ...backendEntries]),
    ...below(libxl, toolstack, backendEntries),
  ];
}

/** What the backend connects, in the words of the frontend's `output` key. */
export function outputOf(spec: Pick<ChannelSpec, 'connection'>, deviceId: number): string {
  return spec.connection === 'pty' ? 'pty' : `chardev:libxl-channel${deviceId}`;
}

type Entry = readonly [key: string, value: string];

const PROTOCOL = 'vt100';

function backendKeys({ domid }: ChannelAddress, spec: ChannelSpec, resolvedPath: string): Entry[] {
  // InitWait at once keeps every QEMU away, which only takes backends in Initialising (design D22).
  const state = spec.backend === 'native' ? XENBUS['init-wait'] : XENBUS.initialising;
  const entries: Entry[] = [
    ['frontend-id', String(domid)],
    ['online', '1'],
    ['state', String(state)],
    ['protocol', PROTOCOL],
    ['name', spec.name],
    ['connection', spec.connection],
  ];
  if (spec.connection === 'socket' || spec.path !== undefined) entries.push(['path', resolvedPath]);
  if (spec.mode !== undefined) entries.push([KEY.mode, spec.mode.toString(8).padStart(4, '0')]);
  if (spec.owner !== undefined) entries.push([KEY.owner, spec.owner]);
  if (spec.group !== undefined) entries.push([KEY.group, spec.group]);
  if (spec.limitBytes !== DEFAULT_LIMIT_BYTES) entries.push([KEY.limit, String(spec.limitBytes)]);
  if (spec.overflow === 'drop-newest') entries.push([KEY.overflow, spec.overflow]);
  if (spec.speakFirst === true) entries.push([KEY.speakFirst, '1']);
  if (spec.connect === true) entries.push([KEY.connect, '1']);
  entries.push(...logKeys(spec.log));
  if (spec.backend !== 'native') entries.push([KEY.backend, spec.backend]);
  return entries;
}

function logKeys(log: ChannelSpec['log']): Entry[] {
  if (log === undefined) return [];
  const entries: Entry[] = [[KEY.log, log.path]];
  if (log.maxBytes !== undefined) entries.push([KEY.logSize, String(log.maxBytes)]);
  if (log.keep !== undefined) entries.push([KEY.logKeep, String(log.keep)]);
  if (log.timestamps === true) entries.push([KEY.logTimestamps, '1']);
  return entries;
}

function below(directory: string, permissions: Permissions, entries: readonly Entry[]): NodeWrite[] {
  return entries.map(([key, value]) => ({ path: `${directory}/${key}`, value, permissions }));
}
