/**
 * Shows what `attach` would write, without a store: for reading, for programs, and as a shell script. Nothing here looks
 * at a host, so nothing here knows whether the device id is free.
 */
import { formatPermission, type Permission } from '../../xenstore/permissions.js';
import { FIRST_DEVICE_ID } from '../console/device-id.js';
import {
  backendPath,
  type ChannelAddress,
  channelWrites,
  defaultPath,
  frontendPath,
  libxlPath,
  type NodeWrite,
} from '../console/layout.js';
import { type ChannelSpec, checkSocketPath } from '../console/spec.js';

export interface PlanInput {
  readonly spec: ChannelSpec;
  readonly domid: number;
  readonly backendDomid: number;
  readonly runDirectory: string;
}

export interface Plan {
  readonly address: ChannelAddress;
  readonly path: string;
  readonly writes: readonly NodeWrite[];
}

/** The writes for one channel; without a device id in the spec, those for the first one. */
export function planChannel({ spec, domid, backendDomid, runDirectory }: PlanInput): Plan {
  const address = { domid, backendDomid, deviceId: spec.deviceId ?? FIRST_DEVICE_ID };
  const path = spec.path ?? defaultPath(runDirectory, domid, spec.name);
  checkSocketPath(path);
  return { address, path, writes: channelWrites(address, spec, path) };
}

const formatPermissions = (permissions: readonly Permission[]): string => permissions.map(formatPermission).join(',');

/** One node per line, as `xenstore-ls -fp` prints them. */
export function formatText(writes: readonly NodeWrite[]): string {
  return writes
    .map(({ path, value, permissions }) => `${path} = "${value}"   (${formatPermissions(permissions)})\n`)
    .join('');
}

export type JsonNode = { path: string; value: string; permissions: string[] };

export function toJsonNodes(writes: readonly NodeWrite[]): JsonNode[] {
  return writes.map(({ path, value, permissions }) => ({
    path,
    value,
    permissions: permissions.map(formatPermission),
  }));
}

/** Commands of xenstore-utils. Good for a domain that is paused before its first instruction, and for reading. */
export function formatShell({ address, writes }: Plan): string {
  const { domid, deviceId } = address;
  const stale = [libxlPath(domid, deviceId), frontendPath(domid, deviceId), backendPath(address)];
  return [
    '#!/bin/sh -e',
    '# WARNING: single commands are no transaction. The guest of a running domain probes the device as soon as the',
    '# frontend appears, is refused by permissions that are not set yet, and never tries again. Run this only while the',
    '# domain has not started; on a running one use: xenchannel attach',
    ...stale.map((path) => `xenstore-rm ${quote(path)} 2>/dev/null || true`),
    ...writes.flatMap(({ path, value, permissions }) => [
      `xenstore-write ${quote(path)} ${quote(value)}`,
      `xenstore-chmod ${quote(path)} ${permissions.map(formatPermission).join(' ')}`,
    ]),
    '',
  ].join('\n');
}

/** For a POSIX shell; plain words stay plain. */
function quote(text: string): string {
  return /^[A-Za-z0-9/_.:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
