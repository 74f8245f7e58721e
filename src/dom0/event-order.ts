/**
 * Whether a channel has got an event channel below those of devices that its guest had before. After a restore Linux's
 * hvc_xen gives back the number that a console had until then (linux:drivers/tty/hvc/hvc_xen.c, xencons_disconnect_backend,
 * seen with 6.1): in order that is nobody's, out of order another device's by then, whose events stop.
 */
import type { StoreOperations } from '../../xenstore/index.js';
import { domainPath } from '../console/layout.js';
import { parseU32 } from '../console/u32.js';
import { mapBounded } from './environment.js';

export interface DeviceEvents {
  /** `vbd/51712`. */
  readonly device: string;
  readonly port: number;
}

/** Where frontends of Linux name theirs: consoles, others, and network devices with one for each direction. */
const PORT_KEYS = ['port', 'event-channel', 'event-channel-tx', 'event-channel-rx'];
const MAX_DEVICES = 256;
/** What a frontend may claim is bounded by what Linux makes: a queue for each processor. */
const MAX_QUEUES = 512;

/** The device with the highest event channel; undefined where none has one. What a guest wrote that is no number is nothing. */
export async function highestEvents(ops: StoreOperations, domid: number): Promise<DeviceEvents | undefined> {
  const devices = `${domainPath(domid)}/device`;
  const kinds = await ops.tryDirectory(devices);
  const ids = await mapBounded(kinds, async (kind) => {
    const found = await ops.tryDirectory(`${devices}/${kind}`);
    return found.map((id) => `${kind}/${id}`);
  });
  const found = await mapBounded(ids.flat().slice(0, MAX_DEVICES), async (device) => ({
    device,
    port: await highestPort(ops, `${devices}/${device}`),
  }));
  return found.reduce<DeviceEvents | undefined>(
    (best, { device, port }) => (port > (best?.port ?? 0) ? { device, port } : best),
    undefined,
  );
}

async function highestPort(ops: StoreOperations, frontend: string): Promise<number> {
  const queues = parseU32(await ops.tryReadText(`${frontend}/multi-queue-num-queues`)) ?? 0;
  // They are made in the order of their numbers.
  const last = queues > 0 && queues <= MAX_QUEUES ? `${frontend}/queue-${queues - 1}` : frontend;
  const texts = await Promise.all(PORT_KEYS.map((key) => ops.tryReadText(`${last}/${key}`)));
  return Math.max(0, ...texts.map((text) => parseU32(text) ?? 0));
}

/** What the admin should know of a channel with this event channel, where `before` was the highest one; else nothing. */
export function orderWarnings(port: number | undefined, before: DeviceEvents | undefined): string[] {
  if (port === undefined || before === undefined || port > before.port) return [];
  return [
    `the guest uses event channel ${port} for it, below that of ${before.device} (${before.port}): a Linux guest may lose the events of another device after a save and restore or a migration, so detach it before and attach it afterwards`,
  ];
}
