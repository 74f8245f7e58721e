/**
 * The chardevs of the QEMU that runs for a domain: what libxl puts on its command line for channels, added and removed
 * while it runs. Source: xen:tools/libs/light/libxl_dm.c (-chardev), qemu:qapi/char.json.
 */

import type { Clock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import { QmpClient } from './qmp.js';

export interface QemuEnvironment {
  readonly clock: Clock;
  /** Where libxl keeps its QMP sockets. */
  readonly xenRunDirectory?: string;
}

const DEFAULT_XEN_RUN_DIRECTORY = '/run/xen';

export const chardevId = (deviceId: number): string => `libxl-channel${deviceId}`;

/** A listening socket at `path`. QEMU removes whatever stands there, so the caller has looked. */
export function addSocketChardev(env: QemuEnvironment, domid: number, deviceId: number, path: string): Promise<void> {
  return withMonitor(env, domid, async (qmp) => {
    const addr = { type: 'unix', data: { path } };
    const backend = { type: 'socket', data: { addr, server: true, wait: false } };
    await qmp.execute('chardev-add', { id: chardevId(deviceId), backend });
  });
}

export function removeChardev(env: QemuEnvironment, domid: number, deviceId: number): Promise<void> {
  return withMonitor(
    env,
    domid,
    async (qmp) => void (await qmp.execute('chardev-remove', { id: chardevId(deviceId) })),
  );
}

async function withMonitor(env: QemuEnvironment, domid: number, fn: (qmp: QmpClient) => Promise<void>): Promise<void> {
  const directory = env.xenRunDirectory ?? DEFAULT_XEN_RUN_DIRECTORY;
  const qmp = await QmpClient.connect(`${directory}/qmp-libxl-${domid}`, env.clock).catch((error: unknown) => {
    if (!(error instanceof ChannelError) || error.code !== 'qemu-unreachable') throw error;
    throw new ChannelError(
      'qemu-unreachable',
      `${error.message}; does domain ${domid} have a QEMU? PV and PVH domains often have none: use --backend native`,
      error.details,
      { cause: error },
    );
  });
  try {
    await fn(qmp);
  } finally {
    qmp.close();
  }
}
