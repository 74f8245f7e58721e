/**
 * Limits for unprivileged domains, with the names CONTROL uses for them. Knows no domain and no node.
 * Source: xen:tools/xenstore/xenstored_core.c (quota_*), xenstored_control.c (hard_quotas, soft_quotas).
 */
import type { LikenessRules } from './likeness.js';

/** Most that a relative path may have; CONTROL cannot raise `path-max` for anyone above what a message holds. */
export interface Quotas {
  nodes: number;
  watches: number;
  transactions: number;
  outstanding: number;
  'transaction-nodes': number;
  memory: number;
  'node-size': number;
  'path-max': number;
  permissions: number;
}

export type QuotaName = keyof Quotas;

/** In the order in which `CONTROL quota` lists them. */
export const QUOTA_TEXTS: ReadonlyArray<readonly [name: QuotaName, meaning: string]> = [
  ['nodes', 'Nodes per domain'],
  ['watches', 'Watches per domain'],
  ['transactions', 'Transactions per domain'],
  ['outstanding', 'Outstanding requests per domain'],
  ['transaction-nodes', 'Max. number of accessed nodes per transaction'],
  ['memory', 'Total Xenstore memory per domain (error level)'],
  ['node-size', 'Max. size of a node'],
  ['path-max', 'Max. length of a node path'],
  ['permissions', 'Max. number of permissions per node'],
];

/** What Xen 4.22 calls them, and in which order it lists them. */
export const RECENT_QUOTA_TEXTS: ReadonlyArray<readonly [wire: string, name: QuotaName, meaning: string]> = [
  ['nodes', 'nodes', 'Nodes per domain'],
  ['watches', 'watches', 'Watches per domain'],
  ['outstanding', 'outstanding', 'Outstanding requests per domain'],
  ['memory', 'memory', 'Total Xenstore memory per domain'],
  ['transactions', 'transactions', 'Active transactions per domain'],
  ['transaction-nodes', 'transaction-nodes', 'Max. number of accessed nodes per transaction'],
  ['node-permissions', 'permissions', 'Max. number of permissions per node'],
  ['path-max', 'path-max', 'Max. length of a node path'],
  ['node-size', 'node-size', 'Max. size of a node'],
];

const MIB = 1024 * 1024;

export const SOFT_MEMORY_BYTES = 2 * MIB;

export function defaultQuotas(rules: LikenessRules): Quotas {
  return {
    nodes: 1000,
    watches: rules.watchMax,
    transactions: 10,
    outstanding: rules.outstandingMax,
    'transaction-nodes': 1024,
    memory: 2 * MIB + MIB / 2,
    'node-size': 2048,
    'path-max': rules.pathMax,
    permissions: 5,
  };
}

export const PERMISSION_BYTES = 8;

/** Size of a node as the node-size quota counts it: record header, 8 bytes per permission, value, child names. */
export function nodeBytes(
  { recordHeaderBytes }: LikenessRules,
  permissionCount: number,
  valueBytes: number,
  childBytes: number,
): number {
  return recordHeaderBytes + PERMISSION_BYTES * permissionCount + valueBytes + childBytes;
}
