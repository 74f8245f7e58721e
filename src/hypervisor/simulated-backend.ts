/**
 * The backend's side of the simulated hypervisor: what gntdev and the evtchn device give to one process. The doorbell
 * is a guarded function call, because a ring of 2048 bytes turns thousands of times a second.
 */
import { ChannelError } from '../base/errors.js';
import type { BoundPort, EventChannels, GrantedPage, GrantMapper, Hypervisor } from './ports.js';
import type { Grant } from './simulated.js';

/** Rounds of one port before other work of the event loop gets its turn: 128 KiB through the `out` ring. */
const MAX_ROUNDS = 64;

/** One end of an event channel, as the other end sees it. */
export interface EventPort {
  raise(): void;
}

/** A guest's port that this backend may bind. */
export interface BindablePort extends EventPort {
  bound: EventPort | undefined;
}

/** What a backend process needs of the hypervisor. */
export interface BackendLedger {
  grant(domid: number, reference: number): Grant | undefined;
  unmapped(domid: number, reference: number): void;
  port(domid: number, port: number): BindablePort | undefined;
  isAlive(domid: number): boolean;
  closed(backend: SimulatedBackend): void;
}

export class SimulatedBackend implements Hypervisor {
  readonly #ledger: BackendLedger;
  readonly #pages = new Set<GrantedPage>();
  readonly #ports = new Set<BackendPort>();
  #open = true;

  constructor(ledger: BackendLedger) {
    this.#ledger = ledger;
  }

  get mappedPages(): number {
    return this.#pages.size;
  }

  get boundPorts(): number {
    return this.#ports.size;
  }

  readonly grants: GrantMapper = { map: (domid, reference) => this.#map(domid, reference) };
  readonly events: EventChannels = { bind: (domid, port, onEvent) => this.#bind(domid, port, onEvent) };

  close(): void {
    this.#open = false;
    for (const port of [...this.#ports]) port.close();
    for (const page of [...this.#pages]) page.release();
    this.#ledger.closed(this);
  }

  /** What the kernel does for a process that died: the same, but the process cannot ask for anything afterwards. */
  crash(): void {
    this.close();
  }

  #map(domid: number, reference: number): GrantedPage {
    const grant = this.#open ? this.#ledger.grant(domid, reference) : undefined;
    if (grant === undefined) {
      // gntdev answers every reason alike (seen on Xen 4.17).
      throw new ChannelError('grant-unmappable', `page ${reference} of domain ${domid} cannot be mapped: EINVAL`, {
        domid,
        grantReference: reference,
        errno: 'EINVAL',
      });
    }
    grant.mappings++;
    const { bytes, words } = grant.page;
    const page: GrantedPage = {
      bytes,
      words,
      release: () => {
        if (this.#pages.delete(page)) this.#ledger.unmapped(domid, reference);
      },
    };
    this.#pages.add(page);
    return page;
  }

  #bind(domid: number, remotePort: number, onEvent: () => void): BoundPort {
    const remote = this.#open ? this.#ledger.port(domid, remotePort) : undefined;
    if (remote === undefined || remote.bound !== undefined) {
      const errno = this.#ledger.isAlive(domid) ? 'EINVAL' : 'ESRCH';
      throw new ChannelError(
        'port-unbindable',
        `event channel ${remotePort} of domain ${domid} cannot be bound: ${errno}`,
        { domid, remotePort, errno },
      );
    }
    const port = new BackendPort(remote, onEvent, () => this.#ports.delete(port));
    remote.bound = port;
    this.#ports.add(port);
    port.raiseSoon();
    return port;
  }
}

class BackendPort implements BoundPort, EventPort {
  readonly #remote: BindablePort;
  readonly #onEvent: () => void;
  readonly #onClose: () => void;
  #open = true;
  #pending = false;
  #masked = false;
  /** Inside `onEvent`, or inside the owner's own `notify`: an event must wait for the owner's stack to unwind. */
  #delivering = false;
  #notifying = 0;
  #scheduled = false;

  constructor(remote: BindablePort, onEvent: () => void, onClose: () => void) {
    this.#remote = remote;
    this.#onEvent = onEvent;
    this.#onClose = onClose;
  }

  notify(): void {
    if (!this.#open || this.#remote.bound !== this) return;
    this.#notifying++;
    try {
      this.#remote.raise();
    } finally {
      this.#notifying--;
    }
    if (this.#pending && !this.#masked && !this.#delivering) this.#deliverSoon();
  }

  unmask(): void {
    this.#masked = false;
    if (this.#pending && !this.#delivering) this.#deliverSoon();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    // The guest's port is unbound again: another process may bind it, the guest's notifications go nowhere.
    if (this.#remote.bound === this) this.#remote.bound = undefined;
    this.#onClose();
  }

  raise(): void {
    this.#pending = true;
    if (this.#notifying === 0) this.#deliver();
  }

  raiseSoon(): void {
    this.#pending = true;
    this.#deliverSoon();
  }

  #deliverSoon(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      for (let round = 0; this.#open && this.#pending && !this.#masked; round++) {
        if (round === MAX_ROUNDS) {
          setImmediate(() => this.#deliver());
          break;
        }
        this.#pending = false;
        this.#masked = true;
        this.#onEvent();
      }
    } catch (error) {
      // The guest that rang must not get the backend's exception: two programs, two stacks.
      queueMicrotask(() => {
        throw error;
      });
    } finally {
      this.#delivering = false;
    }
  }
}
