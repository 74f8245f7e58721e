/** Which version of the product this is, from its package.json. */
import { readFileSync } from 'node:fs';

export function readVersion(): string {
  // Sources stand two directories below package.json, built files three.
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const { version } = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version?: unknown };
      if (typeof version === 'string') return version;
    } catch {}
  }
  return 'unknown';
}
