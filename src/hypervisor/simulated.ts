/**
 * A hypervisor in memory: domains, grant tables and event channels, with the errors and the aftermath that a genuine
 * Xen 4.17 and Linux's gntdev and evtchn devices showed. Knows nothing of consoles, xenstore or time.
 */
import { ChannelError } from '../base/errors.js';
import type { GuestPage } from './guest-page.js';
import type { Hypervisor } from './ports.js';
import { type BackendLedger, type EventPort, SimulatedBackend } from './simulated-backend.js';

/** Where a Linux guest's own grants and ports begin: the first ones belong to the toolstack (seen on Xen 4.17). */
const FIRST_FREE = 8;
/** EVTCHN_2L_NR_CHANNELS on 64 bit; Linux guests on Xen hit a limit of their own long before. */
const MAX_PORTS = 4096;
const MAX_GRANTS = 65536;

/** One entry of a grant table. */
export interface Grant {
  readonly page: GuestPage;
  readonly toDomid: number;
  mappings: number;
  revoked: boolean;
}

interface Domain {
  readonly domid: number;
  alive: boolean;
  readonly grants: Map<number, Grant>;
  readonly ports: Map<number, GuestPort>;
  nextReference: number;
  nextPort: number;
  warnings: number;
}

/** The guest's end of an event channel. */
class GuestPort implements EventPort {
  readonly remoteDomid: number;
  bound: EventPort | undefined;
  handler: (() => void) | undefined;
  open = true;
  #busy = false;
  #again = false;

  constructor(remoteDomid: number) {
    this.remoteDomid = remoteDomid;
  }

  /** An interrupt of the guest. A ring turn costs a function call; nested ones are folded into one more round. */
  raise(): void {
    this.#again = true;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#again && this.open) {
        this.#again = false;
        this.handler?.();
      }
    } finally {
      this.#busy = false;
    }
  }
}

export class SimulatedHypervisor {
  readonly #domains = new Map<number, Domain>();
  readonly #backends = new Set<SimulatedBackend>();
  #warnings = 0;

  /** Throws when the domid still belongs to a domain, be it a zombie. */
  createDomain(domid: number): void {
    if (this.#domains.has(domid)) {
      throw new ChannelError('internal-bug', `domain ${domid} cannot be created: its id is still in use`, { domid });
    }
    this.#domains.set(domid, {
      domid,
      alive: true,
      grants: new Map(),
      ports: new Map(),
      nextReference: FIRST_FREE,
      nextPort: FIRST_FREE,
      warnings: 0,
    });
  }

  /** Kills a domain. Its id comes free when the last mapped page of it is given back. */
  destroyDomain(domid: number): void {
    const domain = this.#domains.get(domid);
    if (domain === undefined || !domain.alive) return;
    domain.alive = false;
    for (const port of domain.ports.values()) port.open = false;
    domain.ports.clear();
    this.#bury(domain);
  }

  isAlive(domid: number): boolean {
    return this.#domains.get(domid)?.alive === true;
  }

  // --- what a guest kernel calls -------------------------------------------------------------------------------------

  /** Lends `page` to `toDomid` and returns the grant reference. */
  grant(domid: number, toDomid: number, page: GuestPage): number {
    const domain = this.#alive(domid);
    if (domain.grants.size >= MAX_GRANTS) throw this.#exhausted(domid, 'grant references', MAX_GRANTS);
    while (domain.grants.has(domain.nextReference)) domain.nextReference++;
    const reference = domain.nextReference++;
    domain.grants.set(reference, { page, toDomid, mappings: 0, revoked: false });
    return reference;
  }

  /**
   * Takes the page back, whether or not a backend still maps it. False when one does: a Linux guest then frees memory
   * that is not its own any more and prints page table warnings (seen on Xen 4.17). Such a reference is never reused.
   */
  revoke(domid: number, reference: number): boolean {
    const domain = this.#domains.get(domid);
    const grant = domain?.grants.get(reference);
    if (domain === undefined || grant === undefined || grant.revoked) {
      throw new ChannelError('internal-bug', `domain ${domid} has no grant ${reference} to revoke`, { domid });
    }
    grant.revoked = true;
    if (grant.mappings === 0) {
      domain.grants.delete(reference);
      domain.nextReference = Math.min(domain.nextReference, reference);
      return true;
    }
    domain.warnings++;
    this.#warnings++;
    return false;
  }

  /** A port that only `remoteDomid` may bind. */
  allocUnbound(domid: number, remoteDomid: number): number {
    const domain = this.#alive(domid);
    if (domain.ports.size >= MAX_PORTS) throw this.#exhausted(domid, 'event channels', MAX_PORTS);
    while (domain.ports.has(domain.nextPort)) domain.nextPort++;
    const port = domain.nextPort++;
    domain.ports.set(port, new GuestPort(remoteDomid));
    return port;
  }

  /** `handler` is the interrupt handler: never called while it runs, but possibly from inside `notify`. */
  onEvent(domid: number, port: number, handler: () => void): void {
    this.#port(domid, port).handler = handler;
  }

  /** Rings the backend; nothing happens while none is bound. */
  notify(domid: number, port: number): void {
    this.#port(domid, port).bound?.raise();
  }

  closePort(domid: number, port: number): void {
    const domain = this.#domains.get(domid);
    const guestPort = domain?.ports.get(port);
    if (domain === undefined || guestPort === undefined) return;
    guestPort.open = false;
    domain.ports.delete(port);
    domain.nextPort = Math.min(domain.nextPort, port);
  }

  // --- what backends call --------------------------------------------------------------------------------------------

  /** The rights of one backend process of domain `backendDomid`. `crash` is what the kernel does when it is killed. */
  openBackend(backendDomid = 0): Hypervisor & { crash(): void } {
    const ledger: BackendLedger = {
      grant: (domid, reference) => this.#mappableGrant(backendDomid, domid, reference),
      unmapped: (domid, reference) => this.#unmapped(domid, reference),
      port: (domid, port) => {
        const guestPort = this.#domains.get(domid)?.ports.get(port);
        return guestPort?.remoteDomid === backendDomid ? guestPort : undefined;
      },
      isAlive: (domid) => this.isAlive(domid),
      closed: (backend) => this.#backends.delete(backend),
    };
    const backend = new SimulatedBackend(ledger);
    this.#backends.add(backend);
    return backend;
  }

  // --- what tests ask ------------------------------------------------------------------------------------------------

  /** Destroyed domains that live on because a backend still maps a page of theirs. */
  zombies(): number[] {
    return [...this.#domains.values()].filter((domain) => !domain.alive).map((domain) => domain.domid);
  }

  mappedPages(): number {
    let count = 0;
    for (const backend of this.#backends) count += backend.mappedPages;
    return count;
  }

  boundPorts(): number {
    let count = 0;
    for (const backend of this.#backends) count += backend.boundPorts;
    return count;
  }

  /** How often a guest took back a page that was still mapped; of all domains, dead ones included, or of a living one. */
  guestWarnings(domid?: number): number {
    return domid === undefined ? this.#warnings : (this.#domains.get(domid)?.warnings ?? 0);
  }

  // -------------------------------------------------------------------------------------------------------------------

  #mappableGrant(backendDomid: number, domid: number, reference: number): Grant | undefined {
    const domain = this.#domains.get(domid);
    if (domain === undefined || !domain.alive) return undefined;
    const grant = domain.grants.get(reference);
    return grant !== undefined && !grant.revoked && grant.toDomid === backendDomid ? grant : undefined;
  }

  #unmapped(domid: number, reference: number): void {
    const domain = this.#domains.get(domid);
    const grant = domain?.grants.get(reference);
    if (domain === undefined || grant === undefined) return;
    grant.mappings--;
    // Other backends may map it too, as gntdev allows: only the last one's views can be taken away.
    if (grant.mappings > 0) return;
    grant.page.relocate();
    if (grant.revoked) domain.grants.delete(reference);
    this.#bury(domain);
  }

  #bury(domain: Domain): void {
    if (domain.alive) return;
    for (const grant of domain.grants.values()) if (grant.mappings > 0) return;
    this.#domains.delete(domain.domid);
  }

  #alive(domid: number): Domain {
    const domain = this.#domains.get(domid);
    if (domain?.alive !== true) {
      throw new ChannelError('internal-bug', `there is no living domain ${domid}`, { domid });
    }
    return domain;
  }

  #port(domid: number, port: number): GuestPort {
    const guestPort = this.#domains.get(domid)?.ports.get(port);
    if (guestPort === undefined) {
      throw new ChannelError('internal-bug', `domain ${domid} has no event channel ${port}`, { domid, port });
    }
    return guestPort;
  }

  #exhausted(domid: number, what: string, limit: number): ChannelError {
    return new ChannelError('internal-bug', `domain ${domid} has used up its ${limit} ${what}`, { domid, limit });
  }
}
