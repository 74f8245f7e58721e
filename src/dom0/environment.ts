/**
 * What the commands of dom0 need to know about the host they run on, and bounded fan-out for their many small reads.
 */
import type { Clock } from '../base/clock.js';

export interface Dom0Environment {
  /** Where sockets of channels and the daemon's control socket live: /run/xenchannel. */
  readonly runDirectory: string;
  /** The domain whose daemon serves channels: 0 unless this is a driver domain. */
  readonly backendDomid: number;
  readonly clock: Clock;
  /** Where the records of channels that shall exist lie; absent: there are none. */
  readonly stateDirectory?: string;
  /** Where libxl keeps its QMP sockets; default /run/xen. */
  readonly xenRunDirectory?: string;
}

/** Requests in flight at a time: enough to hide the round trip, too few to be a burden on xenstored. */
const MAX_PARALLEL = 32;

/** `Promise.all` over `items` with at most MAX_PARALLEL of them running; results in the order of the items. */
export async function mapBounded<T, R>(items: readonly T[], fn: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await fn(items[index] as T);
    }
  };
  await Promise.all(Array.from({ length: Math.min(MAX_PARALLEL, items.length) }, worker));
  return results;
}
