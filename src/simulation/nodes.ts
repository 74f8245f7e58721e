/**
 * Lists of xenstore nodes as data, and how to write them. Knows no path.
 */
import { permissions, type StoreOperations } from '../../xenstore/index.js';

/** Path, value, and permissions; without permissions the node gets those of its parent, as libxl leaves it. */
export type Node = readonly [path: string, value: string, permissions?: readonly [string, ...string[]]];

export async function writeNodes(tx: StoreOperations, nodes: readonly Node[]): Promise<void> {
  for (const [path, value, access] of nodes) {
    await tx.write(path, value);
    if (access !== undefined) await tx.setPermissions(path, permissions(...access));
  }
}
