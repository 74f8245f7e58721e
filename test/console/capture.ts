/** Reads dumps in the format of `xenstore-ls -fp`: `path = "value"   (n0,r1)`, one node per line. */
import { type Permission, parsePermission } from '../../xenstore/index.js';

export interface CapturedNode {
  readonly path: string;
  readonly value: string;
  readonly permissions: Permission[];
}

export function parseCapture(text: string): CapturedNode[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => {
      const match = /^(\S+) = "(.*)"\s+\(([^)]+)\)$/.exec(line);
      if (match === null) throw new Error(`no node: ${line}`);
      const [, path = '', value = '', list = ''] = match;
      return { path, value, permissions: list.split(',').map(parsePermission) };
    });
}
