/**
 * What oxenstored knows beyond what all daemons know: its tree, the transactions, and how domains were introduced. The
 * requests about domains and what the hypervisor tells. Knows no message format.
 * Source: xen:tools/ocaml/xenstored/process.ml (do_introduce, do_release), domains.ml (cleanup), xenstored.ml.
 */
import type { Connection } from '../connection.js';
import type { SpecialName, StoreCore } from '../core.js';
import { dropConnection } from '../lifecycle.js';
import { NodePermissions } from '../node-permissions.js';
import { fireChanges, fireSpecial } from './events.js';
import { Refusal, refusal } from './refusal.js';
import type { Actor } from './rights.js';
import { OxNode, OxStore } from './store.js';
import type { OxTransaction } from './transaction.js';

/** A page and an event channel, as INTRODUCE named them. */
interface Interface {
  readonly gfn: number;
  readonly port: number;
}

const FULL_RIGHTS: Actor = { domid: 0, target: undefined };
/** Where Debian has it: oxenstored writes its own name into the tree. */
const EXECUTABLE = '/usr/lib/xen-4.17/bin/oxenstored';
const MAX_TRANSACTION_ID = 0x3ffffffe;

export class OxMachine {
  readonly core: StoreCore;
  readonly store: OxStore;
  /** By the domain that SET_TARGET was given first. */
  readonly targets = new Map<number, number>();
  readonly #interfaces = new Map<number, Interface>([[0, { gfn: 0, port: 0 }]]);

  constructor(core: StoreCore) {
    this.core = core;
    this.store = new OxStore(() => ({ nodes: core.quotas.nodes, valueBytes: core.quotas['node-size'] }));
    for (const name of ['@introduceDomain', '@releaseDomain', 'local', 'tool']) this.store.mkdir(FULL_RIGHTS, [name]);
    this.store.write(FULL_RIGHTS, ['tool', 'xenstored'], EXECUTABLE);
  }

  actorOf({ domid }: Connection): Actor {
    return { domid, target: this.targets.get(domid) };
  }

  dropTransactions(connection: Connection): void {
    const open = connection.oxTransactions;
    if (connection.domain !== undefined) connection.domain.transactions -= open.size;
    open.clear();
  }

  /** A domain's connections stand for its one ring, so its ids are unique across them. */
  nextTransactionId(connection: Connection): number {
    const counter = connection.domain ?? connection;
    const open = connection.oxTransactions;
    do {
      counter.nextTransactionId = counter.nextTransactionId >= MAX_TRANSACTION_ID ? 1 : counter.nextTransactionId + 1;
    } while (open.has(counter.nextTransactionId));
    return counter.nextTransactionId;
  }

  fire(done: OxTransaction): void {
    fireChanges(this.core, this.targets, done);
  }

  #fireSpecial(name: SpecialName): void {
    fireSpecial(this.core, this.targets, this.store.root, name);
  }

  /** Throws Refusal EINVAL when the hypervisor has no such domain or the domain has another page or port. */
  introduce(domid: number, { gfn, port }: Interface): void {
    const { domains } = this.core;
    const known = domains.introduced(domid);
    if (known === undefined) this.#introduceNew(domid, { gfn, port });
    const current = this.#interfaces.get(domid) ?? { gfn, port };
    // The same page again: the event channel is bound anew.
    const next = current.gfn === gfn ? { gfn, port } : current;
    this.#interfaces.set(domid, next);
    if (next.gfn !== gfn || next.port !== port) throw refusal('EINVAL');
  }

  #introduceNew(domid: number, how: Interface): void {
    const { domains } = this.core;
    if (domid !== 0) domains.introduceImplicitly(domid);
    const domain = domid < 0 ? undefined : domains.ensure(domid, 0);
    if (domain === undefined) throw refusal('EINVAL');
    domain.introduced = true;
    domain.shutdown = false;
    domain.sequence = ++this.core.sequence;
    this.#interfaces.set(domid, how);
    try {
      this.#fireSpecial('@introduceDomain');
    } catch (error) {
      throw error instanceof Refusal ? refusal('EINVAL') : error;
    }
  }

  /** The hypervisor or the simulation has it introduced; its page and port are whatever the toolstack says later. */
  introduceQuietly(domid: number): void {
    if (this.core.domains.introduced(domid) === undefined) {
      this.#introduceNew(domid, { gfn: 0, port: 0 });
      this.#interfaces.delete(domid);
    }
  }

  /** RELEASE: forgets the domain whether it was known or not; throws Refusal EINVAL if not. */
  release(domid: number): void {
    const known = this.core.domains.introduced(domid) !== undefined;
    this.#forget(domid);
    if (!known) throw refusal('EINVAL');
    this.#fireSpecial('@releaseDomain');
  }

  #forget(domid: number): void {
    const { core } = this;
    const domain = core.domains.find(domid);
    for (const connection of [...(domain?.connections ?? [])]) {
      this.dropTransactions(connection);
      dropConnection(core, connection);
      core.discardOutput(connection);
      core.closeAfterFlush(connection);
    }
    this.store.forget(domid);
    this.targets.delete(domid);
    this.#interfaces.delete(domid);
    if (domain === undefined) return;
    domain.introduced = false;
    core.domains.forget(domain);
    core.domains.releaseImplicitly(domid);
  }

  /** The hypervisor says that domains ended: those that only shut down are told of again each time. */
  domainEnded(domid: number): void {
    const { domains } = this.core;
    const known = domains.introduced(domid) !== undefined;
    domains.destroy(domid);
    if (known) this.#forget(domid);
    else {
      const domain = domains.find(domid);
      if (domain !== undefined) domains.forget(domain);
    }
    const isDown = [...domains.all()].some(({ introduced, shutdown }) => introduced && shutdown);
    if (known || isDown) this.#tellOfEnd();
  }

  domainShutDown(domid: number): void {
    const domain = this.core.domains.introduced(domid);
    if (domain === undefined) return;
    domain.shutdown = true;
    this.#tellOfEnd();
  }

  #tellOfEnd(): void {
    if (this.core.domains.introduced(0) !== undefined) this.#fireSpecial('@releaseDomain');
  }

  /** The permissions of a special name; those of dom0 alone when its node was removed. */
  specialPermissions(name: SpecialName): NodePermissions {
    const node = this.store.root.children?.get(name);
    return node?.permissions ?? new NodePermissions([{ access: 0, domid: 0, ignored: false }]);
  }

  /** Replaces the tree. */
  load(root: OxNode, special: Readonly<Record<SpecialName, NodePermissions>>): void {
    this.store.keep();
    this.store.renewals++;
    this.store.root = root;
    root.children ??= new Map();
    for (const name of ['@introduceDomain', '@releaseDomain'] as const) {
      if (!root.children.has(name)) root.children.set(name, new OxNode(0, special[name]));
    }
    this.store.recount();
  }
}
