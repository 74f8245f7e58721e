/**
 * Removes the parents that a removed channel leaves empty, as libxl does when a device goes
 * (xen:tools/libs/light/libxl_device.c, libxl__xs_path_cleanup), but never what a toolstack keeps for the domain itself.
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { StoreOperations } from '../../xenstore/index.js';
import { backendsPath, type ChannelAddress, frontendsPath } from '../console/layout.js';

/** An absent node, or an absent parent of it, is not an error. */
export async function removeIfThere(tx: StoreOperations, path: string): Promise<void> {
  try {
    await tx.rm(path);
  } catch (error) {
    if (!isXenstoreError(error, 'ENOENT')) throw error;
  }
}

export async function pruneParents(tx: StoreOperations, { domid, backendDomid }: ChannelAddress): Promise<void> {
  // `device` stays: every toolstack makes it, and the guest watches it.
  await removeWhileEmpty(tx, [frontendsPath(domid)]);
  const backends = backendsPath(backendDomid);
  await removeWhileEmpty(tx, [`${backends}/${domid}`, backends, backends.replace(/\/console$/, '')]);
  const removed = await removeWhileEmpty(tx, [`/libxl/${domid}/device/console`]);
  // libxl keeps `type` and more beside `device`; where there is nothing else, only we have ever been here.
  if (removed && (await isSoleChild(tx, `/libxl/${domid}`, 'device'))) {
    await removeWhileEmpty(tx, [`/libxl/${domid}/device`, `/libxl/${domid}`, '/libxl']);
  }
}

async function isSoleChild(tx: StoreOperations, parent: string, child: string): Promise<boolean> {
  const children = await tx.tryDirectory(parent);
  return children.length === 1 && children[0] === child;
}

/** Innermost first; stops at the first that is not empty. Tells whether all of them are gone. */
async function removeWhileEmpty(tx: StoreOperations, paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    if ((await tx.tryDirectory(path)).length > 0) return false;
    await removeIfThere(tx, path);
  }
  return true;
}
