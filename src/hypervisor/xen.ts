/**
 * The genuine hypervisor, through the devices that Linux offers in dom0 and in driver domains. Loads koffi, and only
 * when it is opened. Knows nothing of consoles.
 */
import { getSystemErrorName } from 'node:util';
import { ChannelError } from '../base/errors.js';
import { type Logger, silentLogger } from '../base/log.js';
import { type DeviceCalls, type DeviceFiles, deviceFiles, loadDeviceCalls } from '../sys/device.js';
import type { Hypervisor } from './ports.js';
import { EVTCHN_PATH, GNTDEV_PATH } from './xen-abi.js';
import { XenEventChannels } from './xen-evtchn.js';
import { XenGrantMapper } from './xen-gntdev.js';

export type XenHypervisorOptions = {
  readonly log?: Logger;
  /** Refuses every other domain, for a process that serves a single one. */
  readonly restrictTo?: number;
  /** The system calls; others in tests. */
  readonly files?: DeviceFiles;
  readonly loadCalls?: () => DeviceCalls;
};

/** Throws ChannelError `not-on-xen`, `permission-denied`, `module-missing` or `system-call-failed`. */
export function openXenHypervisor(options: XenHypervisorOptions = {}): Hypervisor {
  const { log = silentLogger, restrictTo, files = deviceFiles, loadCalls = loadDeviceCalls } = options;
  const gntdev = openOrExplain(GNTDEV_PATH, files);
  let calls: DeviceCalls;
  try {
    // Each domain gets a descriptor of its own later; whether there will be one is better said now.
    files.close(openOrExplain(EVTCHN_PATH, files));
    calls = loadCalls();
  } catch (error) {
    files.close(gntdev);
    throw error;
  }
  const grants = new XenGrantMapper(calls, gntdev);
  const events = new XenEventChannels({ calls, open: () => openOrExplain(EVTCHN_PATH, files), log });
  return {
    grants: { map: (domid, reference) => grants.map(allowed(domid, restrictTo), reference) },
    events: { bind: (domid, port, onEvent) => events.bind(allowed(domid, restrictTo), port, onEvent) },
    close() {
      events.close();
      grants.close();
    },
  };
}

function allowed(domid: number, restrictTo: number | undefined): number {
  if (restrictTo === undefined || domid === restrictTo) return domid;
  throw new ChannelError('internal-bug', `domain ${domid} was touched by a process that serves only ${restrictTo}`, {
    domid,
    restrictTo,
  });
}

function openOrExplain(path: string, files: DeviceFiles): number {
  const fd = files.open(path);
  if (fd >= 0) return fd;
  const errno = getSystemErrorName(fd);
  switch (errno) {
    case 'ENOENT':
    case 'ENODEV':
    case 'ENXIO':
      throw new ChannelError(
        'not-on-xen',
        `${path} is not there (${errno}): this is no Xen dom0 or driver domain, or the modules are missing: modprobe xen-gntdev xen-evtchn`,
        { path, errno },
      );
    case 'EACCES':
    case 'EPERM':
      throw new ChannelError('permission-denied', `${path} may not be opened (${errno}): run as root`, { path, errno });
    default:
      throw new ChannelError('system-call-failed', `${path} cannot be opened: ${errno}`, { path, errno });
  }
}
