/**
 * Lists of xenstore nodes as data, and how to write them. Knows no path.
 */
import { permissions, type StoreOperations } from '../../xenstore/index.js';

/** Path, value, and permissions; without permissions the node gets those of its parent, as libxl leaves it. */
export type Node = readonly [path: string, value: string, permissions?: readonly [string, ...string[]]];

/** All requests at once: a store carries them out in the order in which they are made. */
export async function writeNodes(tx: StoreOperations, nodes: readonly Node[]): Promise<void> {
  await Promise.all(
    nodes.flatMap(([path, value, access]) => [
      tx.write(path, value),
      ...(access === undefined ? [] : [tx.setPermissions(path, permissions(...access))]),
    ]),
  );
}
