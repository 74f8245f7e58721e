/**
 * The three things that bring a guest to look at a device that it has overlooked, or to forget one that is dead. Each is
 * harmless in a guest that did not need it. Source: linux:drivers/xen/xenbus/xenbus_probe.c.
 */
import type { Store } from '../../xenstore/index.js';
import { backendPath, type ChannelAddress, frontendPath, frontendsPath, libxlPath } from '../console/layout.js';
import { pruneParents, removeIfThere } from './prune.js';

/**
 * A frontend that was made while the guest was suspended fires no watch in it, and at a resume Linux looks at the
 * devices it has, not for others. Any write below the frontend makes it look (xenbus_dev_changed). Returns whether the
 * guest has still not begun.
 */
export async function touchFrontend(store: Store, { domid, deviceId }: ChannelAddress): Promise<boolean> {
  const frontend = frontendPath(domid, deviceId);
  return store.transaction(async (tx) => {
    if ((await tx.tryReadText(`${frontend}/state`)) !== '1') return false;
    const protocol = await tx.tryReadText(`${frontend}/protocol`);
    if (protocol !== undefined) await tx.write(`${frontend}/protocol`, protocol);
    return true;
  });
}

/**
 * A device whose nodes are gone stays in a restored guest, with its terminal, until a watch fires below its path and
 * nothing is there (xenbus_cleanup_devices). So something comes there and goes. A guest without such a device sees a
 * frontend without a state, which it ignores.
 */
export async function buryDevice(store: Store, { domid, deviceId }: ChannelAddress): Promise<void> {
  const frontend = frontendPath(domid, deviceId);
  const made = await store.transaction(async (tx) => {
    // Without its parent this would make one, with the permissions of `device`.
    if ((await tx.exists(frontend)) || !(await tx.exists(frontendsPath(domid)))) return false;
    await tx.mkdir(frontend);
    return true;
  });
  if (!made) return;
  await store.transaction(async (tx) => {
    // Whoever used the id in between has put keys into it.
    if ((await tx.tryDirectory(frontend)).length === 0) await removeIfThere(tx, frontend);
  });
}

/**
 * Takes off a channel that the guest has not touched: it has granted no page, so nobody can have one mapped and no
 * handshake is needed. False: the guest has begun, and it stays.
 */
export async function removeUntouched(store: Store, address: ChannelAddress): Promise<boolean> {
  const { domid, deviceId } = address;
  const frontend = frontendPath(domid, deviceId);
  return store.transaction(async (tx) => {
    const [state, reference] = await Promise.all([
      tx.tryReadText(`${frontend}/state`),
      tx.tryReadText(`${frontend}/ring-ref`),
    ]);
    if (state !== '1' || reference !== undefined) return false;
    for (const path of [frontend, backendPath(address), libxlPath(domid, deviceId)]) await removeIfThere(tx, path);
    await pruneParents(tx, address);
    return true;
  });
}
