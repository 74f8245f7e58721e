/**
 * TRANSACTION_START and TRANSACTION_END.
 * Source: xen:tools/xenstore/xenstored_transaction.c (do_transaction_start, do_transaction_end).
 */
import type { StoreCore } from '../core.js';
import { fireForTransaction } from '../firing.js';
import type { DaemonError } from '../likeness.js';
import { charge, recordBytes } from '../memory.js';
import type { Request } from '../request.js';
import { Transaction } from '../transactions.js';

export function transactionStart(core: StoreCore, request: Request): DaemonError | undefined {
  const { connection } = request;
  if (request.transaction !== undefined) return 'EBUSY';
  if (!connection.privileged) {
    const open = connection.domain?.transactions ?? 0;
    const max = core.quota(connection, 'transactions');
    if (core.rules.strictQuotas ? open + 1 >= max : open > max) return core.rules.quotaExceeded;
  }
  // A domain's connections stand for its one ring, so its ids are unique across them.
  const counter = connection.domain ?? connection;
  do {
    counter.nextTransactionId = (counter.nextTransactionId + 1) >>> 0;
  } while (counter.nextTransactionId === 0 || connection.transactions.has(counter.nextTransactionId));
  const transaction = new Transaction(counter.nextTransactionId, ++core.tree.generation);
  connection.transactions.set(transaction.id, transaction);
  if (connection.domain !== undefined) connection.domain.transactions++;
  core.reply(request, `${transaction.id}\0`);
  return undefined;
}

export function transactionEnd(core: StoreCore, request: Request): DaemonError | undefined {
  const { connection, transaction } = request;
  const how = request.onlyString();
  if (how !== 'T' && how !== 'F') return 'EINVAL';
  if (transaction === undefined) return 'ENOENT';
  connection.transactions.delete(transaction.id);
  if (connection.domain !== undefined) {
    connection.domain.transactions--;
    connection.domain.memory -= transaction.bytes;
  }
  const problem = how === 'T' ? commit(core, request, transaction) : undefined;
  if (problem === undefined) core.acknowledge(request);
  return problem;
}

function commit(core: StoreCore, request: Request, transaction: Transaction): DaemonError | undefined {
  if (transaction.failed) return 'ENOMEM';
  const problem = quotaProblem(core, request, transaction);
  if (problem !== undefined) return problem;
  if (!transaction.isCurrent(core.tree)) {
    request.connection.conflicts++;
    return 'EAGAIN';
  }
  request.connection.commits++;
  chargeOwners(core, transaction);
  transaction.apply(core.tree);
  fireForTransaction(core, transaction);
  for (const [domid, change] of transaction.nodeCounts) {
    const domain = core.domains.find(domid);
    if (domain !== undefined) domain.nodes += change;
  }
  return undefined;
}

/** For the records of the nodes that it changes; `apply` has yet to do so. */
function chargeOwners(core: StoreCore, transaction: Transaction): void {
  for (const node of transaction.nodes.values()) {
    if (!node.modified) continue;
    const { original, path } = node;
    if (original !== undefined)
      charge(core, original.permissions.owner, -recordBytes(core, original, path.text.length));
    if (node.present) charge(core, node.permissions.owner, recordBytes(core, node, path.text.length));
  }
}

function quotaProblem(core: StoreCore, request: Request, transaction: Transaction): DaemonError | undefined {
  const checked = transaction.nodeCreated && !request.connection.privileged;
  // Since 4.22 nobody else is told that an owner is gone: somebody must have changed its nodes.
  if (!checked && core.rules.strictQuotas) return undefined;
  for (const [domid, change] of transaction.nodeCounts) {
    const domain = core.domains.ensure(domid, core.tree.generation);
    if (domain === undefined) return 'ENOMEM';
    if (checked && domid !== 0 && domain.nodes + change >= core.quota(request.connection, 'nodes'))
      return core.rules.quotaExceeded;
  }
  return undefined;
}
