/** Figures for people: units that can be read at a glance, with the exact number where it matters. */

const UNITS = ['KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `512 bytes`, `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit: string | undefined;
  for (const next of UNITS) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  if (unit === undefined) return `${bytes} byte${bytes === 1 ? '' : 's'}`;
  return `${value < 10 ? value.toFixed(1).replace(/\.0$/, '') : Math.round(value)} ${unit}`;
}

/** `1.5 KiB (1536)`: what is rounded has its exact number beside it. */
export function formatExactBytes(bytes: number): string {
  return bytes < 1024 ? formatBytes(bytes) : `${formatBytes(bytes)} (${bytes})`;
}
