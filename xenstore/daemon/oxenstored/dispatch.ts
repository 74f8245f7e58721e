/**
 * Answers requests as oxenstored does: in which order reply and events leave, what belongs to a transaction, and how a
 * transaction ends.
 * Source: xen:tools/ocaml/xenstored/process.ml (process_packet, input_handle_error, transaction_replay).
 */
import { Op } from '../../wire.js';
import { textOf } from '../latin1.js';
import type { DaemonError } from '../likeness.js';
import type { Request } from '../request.js';
import type { Watch } from '../watches.js';
import type { OxMachine } from './machine.js';
import { Refusal, refusal } from './refusal.js';
import { OTHERS, type OxHandler, type OxRequest, SIMPLE, watch } from './requests.js';
import { isDom0 } from './rights.js';
import { OxTransaction } from './transaction.js';
import { split } from './words.js';

type Answer = { readonly text?: string | undefined; readonly error?: DaemonError; readonly watch?: Watch };

export function answer(machine: OxMachine, request: Request): void {
  const { core } = machine;
  const { connection, type } = request;
  if (type === Op.Watch || type === Op.Unwatch) request.transactionId = 0;
  const open = connection.oxTransactions;
  const id = request.transactionId;
  const transaction = id === 0 ? new OxTransaction(0, machine.store) : open.get(id);
  if (transaction === undefined) {
    core.error(request, 'EIO');
    return;
  }
  const data = textOf(request.bytes, request.start, request.end);
  const asked: OxRequest = { machine, connection, transaction, data };
  let result = perform(asked, type);
  if (isOverQuota(asked)) result = { error: 'EQUOTA' };
  else if (id !== 0) transaction.operations.push({ type, data, answer: summary(result) });
  if (result.error !== undefined) core.error(request, result.error);
  else if (result.text !== undefined) core.reply(request, result.text);
  else {
    core.acknowledge(request);
    if (result.watch !== undefined) core.event(result.watch, result.watch.path);
    else if (id === 0) machine.fire(transaction);
  }
}

/** Requests of one transaction are counted, also those that failed. */
function isOverQuota({ machine, connection, transaction }: OxRequest): boolean {
  if (isDom0(machine.actorOf(connection))) return false;
  const over = transaction.quotaReached || transaction.operations.length >= machine.core.quotas['transaction-nodes'];
  if (over) transaction.quotaReached = true;
  return over;
}

function perform(request: OxRequest, type: number): Answer {
  if (isOverQuota(request)) return { error: 'EQUOTA' };
  try {
    if (type === Op.Watch) return { watch: watch(request) };
    const handler = SIMPLE.get(type) ?? OTHERS.get(type) ?? TRANSACTIONS.get(type);
    return handler === undefined ? { error: 'ENOSYS' } : { text: handler(request) };
  } catch (error) {
    if (error instanceof Refusal) return { error: error.error };
    throw error;
  }
}

/** Equal for answers that a client cannot tell apart. */
function summary({ text, error }: Answer): string {
  if (error !== undefined) return `!${error}`;
  return text === undefined ? '' : `=${text}`;
}

function start({ machine, connection, transaction }: OxRequest): string {
  if (transaction.id !== 0) throw refusal('EBUSY');
  const open = connection.oxTransactions;
  const count = connection.domain?.transactions ?? 0;
  if (!isDom0(machine.actorOf(connection)) && count > machine.core.quotas.transactions) throw refusal('EQUOTA');
  const made = new OxTransaction(machine.nextTransactionId(connection), machine.store);
  open.set(made.id, made);
  if (connection.domain !== undefined) connection.domain.transactions++;
  return `${made.id}\0`;
}

function end(request: OxRequest): undefined {
  const { machine, connection, transaction, data } = request;
  const how = split(data)[0];
  if (how !== 'T' && how !== 'F') throw refusal('EINVAL');
  if (!connection.oxTransactions.delete(transaction.id)) throw refusal('ENOENT');
  if (connection.domain !== undefined) connection.domain.transactions--;
  if (how === 'F') return;
  // One that only read is as good as given up.
  if (transaction.changes.length > 0) {
    if (!transaction.merge(machine.store) && !repeat(request)) {
      connection.conflicts++;
      throw refusal('EAGAIN');
    }
    machine.fire(transaction);
  }
  connection.commits++;
}

/** Makes all requests again on the tree as it is now: fine if each has the same answer. */
function repeat({ machine, connection, transaction }: OxRequest): boolean {
  const again = new OxTransaction(machine.nextTransactionId(connection), machine.store);
  for (const { type, data, answer: before } of transaction.operations) {
    if (!SIMPLE.has(type)) return false;
    if (summary(perform({ machine, connection, transaction: again, data }, type)) !== before) return false;
  }
  return again.merge(machine.store);
}

const TRANSACTIONS: ReadonlyMap<number, OxHandler> = new Map<number, OxHandler>([
  [Op.TransactionStart, start],
  [Op.TransactionEnd, end],
]);
