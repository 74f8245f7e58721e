/**
 * What the daemon keeps for one client: identity, watches, transactions, messages of the current batch. Knows no socket
 * beyond the callbacks it was given.
 */
import type { Domain } from './domains.js';
import type { Asked, MessageQueue } from './message-queue.js';
import type { Output } from './output.js';
import type { OxTransaction } from './oxenstored/transaction.js';
import type { Actor } from './permission-check.js';
import type { Transaction } from './transactions.js';
import type { Watch } from './watches.js';

/** What the owner of the connection does for it; see XenstoreEngine.connect. */
export type ClientEnd = Pick<Connection, 'send' | 'tryWrite' | 'onClosedByServer' | 'onHeard' | 'queue'>;

export class Connection implements Actor {
  readonly domid: number;
  /** Dom0's sockets: all permissions, no quotas. */
  readonly privileged: boolean;
  /** Undefined for dom0's sockets, which are no domain's ring (xen:tools/xenstore/xenstored_core.c, conn->domain). */
  readonly domain: Domain | undefined;
  /** What relative paths hang below. */
  readonly base: string;
  readonly send: (bytes: Buffer) => void;
  readonly tryWrite: ((bytes: Buffer, length: number) => number) | undefined;
  readonly onClosedByServer: () => void;
  /** Called when requests are read again after `isHeard` was false. */
  readonly onHeard: () => void;
  /** Of a ring: what it has no space for yet. Then `send` is called without bytes when there are messages. */
  readonly queue: MessageQueue | undefined;

  /** By path and token. */
  readonly watches = new Map<string, Watch>();
  readonly transactions = new Map<number, Transaction>();
  /** Those of a daemon that is like oxenstored. */
  readonly oxTransactions = new Map<number, OxTransaction>();
  nextTransactionId = 0;
  /** Transactions that took effect, and that did not because of others. */
  commits = 0;
  conflicts = 0;
  /** Position among the connections that the daemon serves in turn. */
  sequence = 0;
  closed = false;

  /** Messages that have not been handed to `send`; undefined when there are none. */
  output: Output | undefined;
  /** Whether this connection is among those that the batch has to look after. */
  queued = false;
  /** The client takes no bytes at the moment: `output` is kept until it does. */
  held = false;
  /** Requests of domains whose events are on their way to this client. */
  causes: Asked[] = [];
  /** Event path to tokens, of `output`: an identical event is sent once. */
  readonly pendingEvents = new Map<string, Set<string>>();
  /** Memo of one firing: which one, and whether this connection may see it. */
  firing = 0;
  firingAllowed = false;

  constructor(domid: number, domain: Domain | undefined, end: ClientEnd) {
    this.domid = domid;
    this.domain = domain;
    this.privileged = domid === 0;
    this.base = `/local/domain/${domid}/`;
    this.send = end.send;
    this.tryWrite = end.tryWrite;
    this.onClosedByServer = end.onClosedByServer;
    this.onHeard = end.onHeard;
    this.queue = end.queue;
  }

  /** Transactions in progress. */
  get open(): number {
    return this.transactions.size + this.oxTransactions.size;
  }
}
