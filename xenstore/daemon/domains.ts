/**
 * The domains the daemon knows: introduced ones, and those that merely own a node or appear in a permission. Counts what
 * quotas limit. Knows no tree.
 * Source: xen:tools/xenstore/xenstored_domain.c (struct domain, find_or_alloc_existing_domain).
 */
import type { Connection } from './connection.js';
import type { QuotaName, Quotas } from './quota.js';

/** DOMID_FIRST_RESERVED (xen:xen/include/public/xen.h). */
export const FIRST_RESERVED_DOMID = 0x7ff0;

/** Error indicator, watch depth, DOMID_ANY (xen:xen/include/public/io/xs_wire.h, XENSTORE_SERVER_FEATURE_*). */
export const ALL_FEATURES = 14;

export class Domain {
  readonly domid: number;
  /** Store generation when the daemon first heard of the domain: older ACL entries belong to a predecessor. */
  readonly generation: number;
  introduced = false;
  /** Position among the connections that the daemon serves in turn. */
  sequence = 0;
  shutdown = false;
  nodes = 0;
  watches = 0;
  transactions = 0;
  /** Requests whose answers or events have not all been delivered. */
  outstanding = 0;
  /** Bytes that count for its memory quota (memory.ts). */
  memory = 0;
  nextTransactionId = 0;
  /** What GET_FEATURE tells it (Xen 4.22). */
  features = ALL_FEATURES;
  /** Those of its own: what was in force when the daemon first heard of it (Xen 4.22). */
  readonly quotas: Quotas | undefined;
  softMemoryBytes: number | undefined;
  /** The highest figures there were, looked at with each request of the domain (Xen 4.22). */
  readonly maxima = new Map<QuotaName, number>();
  readonly #allMaxima: Map<QuotaName, number> | undefined;
  /** The domain whose rights this one has, too (SET_TARGET). */
  target: Domain | undefined;
  readonly connections = new Set<Connection>();

  constructor(domid: number, generation: number, own: OwnQuotas | undefined) {
    this.domid = domid;
    this.generation = generation;
    this.quotas = own?.quotas;
    this.softMemoryBytes = own?.softMemoryBytes;
    this.#allMaxima = own?.maxima;
  }

  noteMaximum(name: QuotaName, figure: number): void {
    if (this.#allMaxima === undefined) return;
    raise(this.maxima, name, figure);
    if (this.domid !== 0) raise(this.#allMaxima, name, figure);
  }

  resetMaxima(): void {
    this.maxima.clear();
    this.noteMaxima();
  }

  noteMaxima(): void {
    this.noteMaximum('nodes', this.nodes);
    this.noteMaximum('watches', this.watches);
    this.noteMaximum('transactions', this.transactions);
    this.noteMaximum('outstanding', this.outstanding);
    this.noteMaximum('memory', this.memory);
  }
}

/** What a new domain gets of its own. */
export interface OwnQuotas {
  readonly quotas: Quotas;
  readonly softMemoryBytes: number;
  /** Those of all domains but dom0. */
  readonly maxima: Map<QuotaName, number>;
}

function raise(maxima: Map<QuotaName, number>, name: QuotaName, figure: number): void {
  if (figure > (maxima.get(name) ?? 0)) maxima.set(name, figure);
}

export class DomainTable {
  readonly #domains = new Map<number, Domain>();
  readonly #existing = new Set<number>();
  /** Those of `#existing` that exist only because they were introduced. */
  readonly #implicit = new Set<number>();
  readonly #exists: ((domid: number) => boolean) | undefined;
  readonly #ownQuotas: () => OwnQuotas | undefined;

  /** Without `exists`, a domain exists from `create` to `destroy`. */
  constructor(exists: ((domid: number) => boolean) | undefined, ownQuotas: () => OwnQuotas | undefined) {
    this.#exists = exists;
    this.#ownQuotas = ownQuotas;
  }

  find(domid: number): Domain | undefined {
    return this.#domains.get(domid);
  }

  introduced(domid: number): Domain | undefined {
    const domain = this.#domains.get(domid);
    return domain?.introduced ? domain : undefined;
  }

  /** The record of a domain that exists in the hypervisor, made on first use; undefined if there is no such domain. */
  ensure(domid: number, generation: number): Domain | undefined {
    const known = this.#domains.get(domid);
    if (known !== undefined) return known;
    if (!this.exists(domid)) return undefined;
    const domain = new Domain(domid, generation, this.#ownQuotas());
    this.#domains.set(domid, domain);
    return domain;
  }

  forget(domain: Domain): void {
    if (this.#domains.get(domain.domid) === domain) this.#domains.delete(domain.domid);
    for (const other of this.#domains.values()) if (other.target === domain) other.target = undefined;
  }

  exists(domid: number): boolean {
    return domid === 0 || this.#existing.has(domid) || this.#exists?.(domid) === true;
  }

  /** As the hypervisor does. */
  create(domid: number): void {
    this.#existing.add(domid);
    this.#implicit.delete(domid);
  }

  destroy(domid: number): void {
    this.#existing.delete(domid);
    this.#implicit.delete(domid);
  }

  /** Where nobody plays the hypervisor, introducing a domain makes it exist and releasing it ends it. */
  introduceImplicitly(domid: number): void {
    if (this.#exists !== undefined || this.#existing.has(domid) || domid >= FIRST_RESERVED_DOMID) return;
    this.#existing.add(domid);
    this.#implicit.add(domid);
  }

  releaseImplicitly(domid: number): void {
    if (this.#implicit.has(domid)) this.destroy(domid);
  }

  /** A record whatever the hypervisor says, for the owners in a loaded tree. */
  adopt(domid: number, generation: number): Domain {
    const known = this.#domains.get(domid);
    if (known !== undefined) return known;
    const domain = new Domain(domid, generation, this.#ownQuotas());
    this.#domains.set(domid, domain);
    return domain;
  }

  all(): IterableIterator<Domain> {
    return this.#domains.values();
  }
}
