/**
 * Every path, key, value and permission of a channel in xenstore, in one place. Same as libxl's, apart from what the
 * comments name. Sources: xen:tools/libs/light/libxl_console.c (libxl__device_console_add), libxl_device.c
 * (libxl__device_generic_add); checked against dumps of a genuine Xen in test/console.
 */
import type { Permissions } from '../../xenstore/index.js';
import type { ChannelName } from './name.js';

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
 */
export const KEY = {
  identify: 'xenchannel-identify',
  guestOpen: 'xenchannel-guest-open',
  hostOpen: 'xenchannel-host-open',
  mode: 'xenchannel-mode',
  owner: 'xenchannel-owner',
  group: 'xenchannel-group',
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
