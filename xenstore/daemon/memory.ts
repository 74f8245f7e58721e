/**
 * What a domain's nodes, watches, transactions and messages take, counted as the C daemon counts, and whether there is
 * room for more. Knows no message format.
 * Source: xen:tools/xenstore/xenstored_domain.c (domain_memory_add, domain_chk_quota), xenstored_core.c (do_tdb_write).
 */
import { HEADER_BYTES } from '../wire.js';
import type { Connection } from './connection.js';
import type { StoreCore } from './core.js';
import type { Domain } from './domains.js';
import { childText } from './paths.js';
import { nodeBytes } from './quota.js';
import type { Transaction, TransactionNode } from './transactions.js';
import type { NodeView, StoreNode } from './tree.js';

/** Answers up to this length are given to those without room, too: errors must get through. */
const FREE_REPLY_BYTES = 16;
/** Of messages in the queue of a domain that has no quota. */
const MAX_UNLIMITED_BYTES = 2 * 1024 * 1024;

/** Bytes of a node with its path, as one record of the data base. */
export function recordBytes(
  { rules }: StoreCore,
  { permissions, value, childBytes }: Omit<NodeView, 'generation' | 'listing'>,
  pathBytes: number,
): number {
  return nodeBytes(rules, permissions.length, value.length, childBytes) + pathBytes;
}

/** Calls `use` with owner and size of each node's record. */
export function eachRecord(core: StoreCore, root: StoreNode, use: (owner: number, bytes: number) => void): void {
  const visit = (path: string, node: StoreNode): void => {
    use(node.permissions.owner, recordBytes(core, node, path.length));
    if (node.children !== undefined) for (const [name, child] of node.children) visit(childText(path, name), child);
  };
  visit('/', root);
}

export function charge(core: StoreCore, domid: number, bytes: number): void {
  // Dom0's limits are none; what it has is counted when somebody asks (requests/control.ts).
  if (domid === 0) return;
  const domain = core.domains.find(domid);
  if (domain !== undefined) domain.memory += bytes;
}

/** What the transaction's copy of a node has become counts for the domain, as a record named after its path. */
export function chargeCopy(core: StoreCore, domain: Domain, transaction: Transaction, node: TransactionNode): void {
  const bytes = copyBytes(core, transaction, node);
  domain.memory += bytes - node.copyBytes;
  transaction.bytes += bytes - node.copyBytes;
  node.copyBytes = bytes;
}

export function copyBytes(core: StoreCore, transaction: Transaction, node: TransactionNode): number {
  return node.present ? recordBytes(core, node, copyPrefixBytes(transaction) + node.path.text.length) : 0;
}

/** What the name of a copy has before the path. */
export function copyPrefixBytes({ generation }: Transaction): number {
  return `${generation}/`.length;
}

/**
 * Whether a record of `domid` may not become `bytes` longer at the wish of `requester`. Of 4.17 the owner's limit counts
 * whoever asks; since 4.22 that of a domain that asks, so that dom0 may do everything.
 */
export function lacksRoom(core: StoreCore, requester: Connection, domid: number, bytes: number): boolean {
  const { memoryQuota } = core.rules;
  if (domid === 0 || memoryQuota === 'none') return false;
  const domain = core.domains.find(domid);
  const limited = memoryQuota === 'of-owner' ? domain : requester.domain;
  return domain !== undefined && limited !== undefined && reaches(core, limited, domain.memory + bytes);
}

/** The same for what belongs to the client itself: watches and messages. */
export function isFull(core: StoreCore, domain: Domain, bytes: number): boolean {
  return core.rules.memoryQuota !== 'none' && reaches(core, domain, domain.memory + bytes);
}

function memoryLimit(core: StoreCore, domain: Domain): number {
  return domain.quotas?.memory ?? core.quotas.memory;
}

function reaches(core: StoreCore, domain: Domain, bytes: number): boolean {
  const limit = memoryLimit(core, domain);
  return limit !== 0 && bytes >= limit;
}

/** Whether the client must be told ENOMEM instead of this answer. */
export function lacksRoomForReply(core: StoreCore, { domain }: Connection, payloadBytes: number): boolean {
  return domain !== undefined && payloadBytes > FREE_REPLY_BYTES && isFull(core, domain, payloadBytes + HEADER_BYTES);
}

/** Whether the event is dropped. */
export function lacksRoomForEvent(core: StoreCore, { domain, queue }: Connection, payloadBytes: number): boolean {
  if (domain === undefined) return false;
  const isLimited = core.rules.memoryQuota !== 'none' && memoryLimit(core, domain) !== 0;
  if (!isLimited) return queue !== undefined && queue.bytes >= MAX_UNLIMITED_BYTES;
  return isFull(core, domain, payloadBytes + HEADER_BYTES);
}

/** Whether the daemon reads requests of the client: not while it has more than its share under way or in memory. */
export function isHeard(core: StoreCore, { domain }: Connection): boolean {
  if (domain === undefined) return true;
  const limit = domain.quotas?.outstanding ?? core.quotas.outstanding;
  return (limit === 0 || domain.outstanding < limit) && !isFull(core, domain, 0);
}
