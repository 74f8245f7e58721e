/**
 * Transactions that repeat themselves: on conflict, and when the connection is lost before the commit. Knows the rules
 * of TRANSACTION_START and _END (xen:docs/misc/xenstore.txt), not how connections come about.
 */
import { isXenstoreError, XenstoreError } from '../errors.js';
import type { StoreOperations, TransactionOptions } from '../operations.js';
import { Op, type OpNumber } from '../wire.js';
import type { Connection } from './connection.js';
import { RequestOperations, strings } from './operations.js';
import type { StoreClock } from './options.js';

const DEFAULT_MAX_TRIES = 100;
/**
 * The first conflicts are answered at once: one of the rivals has won. From here on each waits a random time below a
 * bound that doubles up to the last, or a crowd of rivals would keep the daemon busy with lost attempts.
 */
const EAGER_TRIES = 3;
const MAX_PAUSE_MS = 32;

export interface TransactionHost {
  readonly clock: StoreClock;
  readonly random: () => number;
  /** A usable connection; rejects when there is none to be expected. */
  ready(): Promise<Connection>;
}

type Outcome<T> = { readonly value: T } | { readonly retryBecause: XenstoreError };

export async function runTransaction<T>(
  host: TransactionHost,
  fn: (tx: StoreOperations) => Promise<T>,
  { maxTries = DEFAULT_MAX_TRIES }: TransactionOptions = {},
): Promise<T> {
  let last: XenstoreError | undefined;
  for (let tries = 0; tries < maxTries; tries++) {
    if (last?.code === 'EAGAIN') await pause(host, tries);
    const outcome = await tryOnce(await host.ready(), fn);
    if ('value' in outcome) return outcome.value;
    last = outcome.retryBecause;
  }
  if (last?.code === 'disconnected') throw last;
  throw new XenstoreError('conflict', `a transaction lost against other writers ${maxTries} times in a row`, {
    cause: last,
  });
}

async function pause({ clock, random }: TransactionHost, tries: number): Promise<void> {
  if (tries <= EAGER_TRIES) return;
  const delayMs = random() * Math.min(MAX_PAUSE_MS, 2 ** (tries - EAGER_TRIES));
  await new Promise<void>((resolve) => {
    clock.after(delayMs, resolve);
  });
}

async function tryOnce<T>(connection: Connection, fn: (tx: StoreOperations) => Promise<T>): Promise<Outcome<T>> {
  let id: number;
  try {
    id = await start(connection);
  } catch (error) {
    return retryIfLost(connection, error);
  }
  const tx = new TransactionOperations(connection, id);
  let value: T;
  try {
    value = await fn(tx);
  } catch (error) {
    tx.end();
    if (connection.broken !== undefined) return retryIfLost(connection, error);
    // Whatever the answer is, the error of `fn` matters more.
    await connection.call(Op.TransactionEnd, strings('F'), { transactionId: id, urgent: true }).promise.catch(() => {});
    throw error;
  }
  tx.end();
  return commit(connection, id, value);
}

async function start(connection: Connection): Promise<number> {
  const answer = await connection.call(Op.TransactionStart, strings('')).promise;
  const text = answer.toString('latin1').replace(/\0$/, '');
  const id = Number(text);
  if (!/^\d{1,10}$/.test(text) || id === 0 || id > 0xffffffff) {
    throw new XenstoreError('protocol', `xenstored called a new transaction '${text.slice(0, 20)}'`);
  }
  return id;
}

async function commit<T>(connection: Connection, id: number, value: T): Promise<Outcome<T>> {
  const call = connection.call(Op.TransactionEnd, strings('T'), { transactionId: id, urgent: true });
  try {
    await call.promise;
    return { value };
  } catch (error) {
    if (isXenstoreError(error, 'EAGAIN')) return { retryBecause: error };
    if (!call.sent) return retryIfLost(connection, error);
    if (!isXenstoreError(error, 'disconnected')) throw error;
    throw new XenstoreError(
      'disconnected',
      `the connection broke while a transaction was being committed, which may or may not have happened: ${connection.broken?.message ?? error.message}`,
      { cause: error },
    );
  }
}

/** Nothing was committed, so that the whole can be done again, if it is only the connection that failed. */
function retryIfLost(connection: Connection, error: unknown): Outcome<never> {
  if (connection.broken !== undefined && isXenstoreError(error, 'disconnected')) return { retryBecause: error };
  throw error;
}

/** Operations inside one transaction, on the connection that began it. */
class TransactionOperations extends RequestOperations {
  readonly #connection: Connection;
  readonly #id: number;
  #ended = false;

  constructor(connection: Connection, id: number) {
    super();
    this.#connection = connection;
    this.#id = id;
  }

  /** Later operations are refused: outside of the transaction they would not mean what they say. */
  end(): void {
    this.#ended = true;
  }

  protected override ask(type: OpNumber, payload: Buffer, path?: string): Promise<Buffer> {
    if (this.#ended) {
      const sentence = `an operation on '${path ?? ''}' came after its transaction had ended: is an await missing?`;
      return Promise.reject(new XenstoreError('EINVAL', sentence, path === undefined ? {} : { path }));
    }
    const options = path === undefined ? { transactionId: this.#id } : { transactionId: this.#id, path };
    return this.#connection.call(type, payload, options).promise;
  }

  protected override get maxPayloadBytes(): number {
    return this.#connection.maxPayloadBytes;
  }

  protected override get transportKind(): Connection['kind'] {
    return this.#connection.kind;
  }
}
