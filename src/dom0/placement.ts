/**
 * The transaction of an attach: every check of xenstore and every write in one, so that neither a guest nor a second
 * attach ever sees half of it. What can be asked at once is asked at once.
 */
import type { Store, StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { lowestFreeDeviceId } from '../console/device-id.js';
import {
  backendPath,
  type ChannelAddress,
  channelWrites,
  frontendsPath,
  libxlPath,
  type NodeWrite,
  permissionSets,
} from '../console/layout.js';
import { printable } from '../console/name.js';
import type { ChannelSpec } from '../console/spec.js';
import { consoleIds } from './channels.js';
import { type Domain, describeDomain, readDomain } from './domains.js';
import { mapBounded } from './environment.js';
import { announceChosenPath, checkPathHasNoOwner, type PathClaim } from './socket-path.js';

export type PlacementInput = PathClaim & { readonly domain: Domain; readonly spec: ChannelSpec };
export type Placement = { readonly address: ChannelAddress; readonly writes: readonly NodeWrite[] };

/** Writes one channel. Throws what the checks find; then nothing was written. */
export function place(store: Store, input: PlacementInput): Promise<Placement> {
  const { domid } = input.domain;
  return store.transaction(async (tx) => {
    const [placement, hasFrontends] = await all([planPlacement(tx, store, input), tx.exists(frontendsPath(domid))]);
    if (!hasFrontends) await makeFrontends(tx, domid);
    await all([writeAll(tx, placement.writes), announceChosenPath(tx, input)]);
    return placement;
  });
}

/** What would be written. Of one moment, apart from the paths of other channels, about which see socket-path.ts. */
export async function planPlacement(
  tx: StoreOperations,
  store: StoreOperations,
  input: PlacementInput,
): Promise<Placement> {
  const { domain, spec, backendDomid } = input;
  const [deviceId] = await all([
    chooseDeviceId(tx, input),
    checkSameDomain(tx, domain),
    spec.connect === true ? undefined : checkPathHasNoOwner(tx, store, input),
  ]);
  const address = { domid: domain.domid, deviceId, backendDomid };
  return { address, writes: channelWrites(address, spec, input.path) };
}

/** Like Promise.all, but waits for all, and of several errors the first in order is thrown: which is told is no race. */
async function all<T extends readonly unknown[]>(
  work: readonly [...T],
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const results = await Promise.allSettled(work);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return results.map((result) => (result as PromiseFulfilledResult<unknown>).value) as never;
}

async function chooseDeviceId(tx: StoreOperations, input: PlacementInput): Promise<number> {
  const { domain, spec, backendDomid } = input;
  const { ids } = await consoleIds(tx, domain.domid, backendDomid);
  await checkNameIsFree(tx, input, ids);
  if (spec.deviceId !== undefined && ids.includes(spec.deviceId)) {
    throw new ChannelError(
      'device-id-in-use',
      `domain ${describeDomain(domain)} already has a console with device id ${spec.deviceId}`,
      { domid: domain.domid, deviceId: spec.deviceId },
    );
  }
  return spec.deviceId ?? lowestFreeDeviceId(new Set(ids));
}

/** A domid may be reused between our look at the name and the transaction; a uuid is not. */
async function checkSameDomain(tx: StoreOperations, domain: Domain): Promise<void> {
  const now = await readDomain(tx, domain.domid);
  if (now === undefined || now.uuid !== domain.uuid) throw goneMeanwhile(domain);
}

export function goneMeanwhile(domain: Domain): ChannelError {
  return new ChannelError('domain-not-found', `domain ${describeDomain(domain)} has gone meanwhile`, {
    domid: domain.domid,
  });
}

/** Names are compared as dom0 wrote them; the guest's own `name` keys do not count. */
async function checkNameIsFree(tx: StoreOperations, input: PlacementInput, ids: readonly number[]): Promise<void> {
  const { domain, spec, backendDomid } = input;
  const owners = await mapBounded(ids, async (deviceId) => {
    const address = { domid: domain.domid, deviceId, backendDomid };
    const names = await Promise.all([
      tx.tryReadText(`${backendPath(address)}/name`),
      tx.tryReadText(`${libxlPath(domain.domid, deviceId)}/name`),
    ]);
    return names.includes(spec.name) ? deviceId : undefined;
  });
  const owner = owners.find((deviceId) => deviceId !== undefined);
  if (owner === undefined) return;
  throw new ChannelError(
    'name-in-use',
    `domain ${describeDomain(domain)} already has a channel ${printable(spec.name)}, with device id ${owner}`,
    { domid: domain.domid, name: spec.name, deviceId: owner },
  );
}

/** It would inherit from `device`, which is the guest's own where xl.cfg has xend_suspend_evtchn_compat. */
async function makeFrontends(tx: StoreOperations, domid: number): Promise<void> {
  const path = frontendsPath(domid);
  const { readOnly } = permissionSets({ domid, deviceId: 0, backendDomid: 0 });
  await Promise.all([tx.mkdir(path), tx.setPermissions(path, readOnly)]);
}

/**
 * In this order, but without waiting for each: 60 round trips would leave others the time to change what was read. A node
 * that dom0 makes has the permissions of the node above it (xen:tools/xenstored/core.c, construct_node, and
 * xen:tools/ocaml/xenstored/store.ml), which saves a third of these requests.
 */
async function writeAll(tx: StoreOperations, writes: readonly NodeWrite[]): Promise<void> {
  const made = new Map(writes.map(({ path, permissions }) => [path, permissions]));
  const inherits = ({ path, permissions }: NodeWrite): boolean =>
    made.get(path.slice(0, path.lastIndexOf('/'))) === permissions;
  await Promise.all(
    writes.flatMap((node) => [
      tx.write(node.path, node.value),
      ...(inherits(node) ? [] : [tx.setPermissions(node.path, node.permissions)]),
    ]),
  );
}
