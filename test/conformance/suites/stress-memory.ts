/** What nodes take in memory by the C daemon's count, taken from a dump: the slow way, to compare with. */
import type { TreeDump } from '../../../xenstore/index.js';

const PERMISSION_BYTES = 8;

/** By domain; `headerBytes` of each record in the data base. */
export function bytesByOwner({ nodes }: TreeDump, headerBytes: number): Map<number, number> {
  const owners = new Map(nodes.map(({ path, permissions }) => [path, Number(permissions[0]?.slice(1))]));
  const total = new Map<number, number>();
  const add = (path: string, bytes: number) => {
    const owner = owners.get(path) ?? 0;
    total.set(owner, (total.get(owner) ?? 0) + bytes);
  };
  for (const { path, value = '', permissions } of nodes) {
    add(path, headerBytes + PERMISSION_BYTES * permissions.length + path.length + value.length);
    // Its name in the list of its parent.
    const slash = path.lastIndexOf('/');
    if (path !== '/') add(path.slice(0, slash) || '/', path.length - slash);
  }
  return total;
}
