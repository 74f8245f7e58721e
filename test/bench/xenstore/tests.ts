/** What is measured, and how good ours must be. Data only. */

export type BenchTest = {
  /** As load.c calls it. */
  readonly key: string;
  readonly name: string;
  readonly unit: string;
  readonly lowerIsBetter?: boolean;
  /** A peer that answers without looking can be measured with it. */
  readonly least?: boolean;
  /** What the second figure is, where there is one. */
  readonly second?: string;
  /**
   * `ratio`: ours must be at least that many times as good as the genuine daemon in the same run. `most`: the figure
   * itself must not be higher.
   */
  readonly target: { readonly ratio: number } | { readonly most: number };
};

/** Daemons and load on one CPU: a request and its reply then cost what they cost, and not what waking the other CPU costs. */
export const PINNED: readonly BenchTest[] = [
  { key: 'sync-read', name: 'sync read', unit: '/s', least: true, target: { ratio: 1.2 } },
  { key: 'sync-write', name: 'sync write', unit: '/s', least: true, target: { ratio: 1.2 } },
  { key: 'directory', name: 'directory of 1000', unit: '/s', least: true, target: { ratio: 2 } },
  { key: 'transaction', name: 'transaction of 10 writes', unit: '/s', least: true, target: { ratio: 4 } },
  { key: 'conflicts', name: '8 conflicting writers', unit: '/s', second: 'tries per commit', target: { ratio: 3 } },
];

export const FREE: readonly BenchTest[] = [
  { key: 'pipe-read', name: '64 outstanding reads', unit: '/s', least: true, target: { ratio: 5 } },
  { key: 'pipe-write', name: '64 outstanding writes', unit: '/s', least: true, target: { ratio: 4 } },
  { key: 'crowd', name: '100 connections 80/20', unit: '/s', least: true, target: { ratio: 1.2 } },
  { key: 'fan-out-1', name: 'watch fan-out 1 x 1000', unit: 'ms', lowerIsBetter: true, target: { ratio: 2 } },
  { key: 'fan-out-100', name: 'watch fan-out 100 x 10', unit: 'ms', lowerIsBetter: true, target: { ratio: 2 } },
  {
    key: 'populate',
    name: 'populate 100k nodes',
    unit: 's',
    lowerIsBetter: true,
    second: 'MiB more',
    target: { ratio: 4 },
  },
  { key: 'remove', name: 'remove 100k nodes', unit: 's', lowerIsBetter: true, target: { ratio: 5 } },
];

export const FLAT: readonly BenchTest[] = [
  { key: 'growth-nodes', name: 'cost at 1M nodes / at 1k', unit: 'x', lowerIsBetter: true, target: { most: 1.5 } },
  { key: 'growth-watches', name: 'write with 10k watches / 1', unit: 'x', lowerIsBetter: true, target: { most: 1.5 } },
];
