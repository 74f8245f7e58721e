/**
 * The mapped ring of one channel: maps and binds what a frontend offers, remembers what failed, gives everything back.
 * Knows no xenstore and no bytes.
 */
import { ChannelError } from '../base/errors.js';
import { BackendRing } from '../console/ring.js';
import type { BoundPort, GrantedPage, Hypervisor } from '../hypervisor/ports.js';
import type { ServedRing } from './handover.js';

/** How long somebody else may go on serving a ring before we give up on this offer: a daemon that is still stopping. */
export const MAX_BIND_TRIES = 8;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2000;

export interface Offer {
  readonly domid: number;
  readonly ringRef: number;
  readonly port: number;
}

export type Outcome =
  | { readonly kind: 'connected'; readonly ring: BackendRing; readonly port: BoundPort }
  | { readonly kind: 'failed'; readonly error: ChannelError; readonly retryMs: number | undefined };

export class RingLink {
  readonly #hypervisor: Hypervisor;
  #page: GrantedPage | undefined;
  #port: BoundPort | undefined;
  #ring: BackendRing | undefined;
  #offer: Offer | undefined;
  #tries = 0;
  #failed: string | undefined;
  #forgiven: string | undefined;

  constructor(hypervisor: Hypervisor) {
    this.#hypervisor = hypervisor;
  }

  get mapped(): boolean {
    return this.#ring !== undefined;
  }

  /** For the handover: which ring, and where in it. */
  get served(): ServedRing | undefined {
    if (this.#ring === undefined || this.#offer === undefined) return undefined;
    const { ringRef, port } = this.#offer;
    return { ringRef, port, outConsumed: this.#ring.outConsumed, inProduced: this.#ring.inProduced };
  }

  /** The same offer has failed before, and nothing has happened that could change that. */
  isKnownBad({ ringRef, port }: Offer): boolean {
    return this.#failed === `${ringRef}/${port}`;
  }

  /** Forgets that the last offer failed: somebody who served it may have gone. */
  forgive(): void {
    this.#forgiven = this.#failed;
    this.#failed = undefined;
  }

  connect(offer: Offer, onEvent: () => void): Outcome {
    const key = `${offer.ringRef}/${offer.port}`;
    if (this.#forgiven !== key) this.#tries = 0;
    try {
      const page = this.#hypervisor.grants.map(offer.domid, offer.ringRef);
      const port = this.#bind(page, offer, onEvent);
      const ring = new BackendRing(page);
      this.#page = page;
      this.#port = port;
      this.#ring = ring;
      this.#offer = offer;
      this.#failed = undefined;
      this.#tries = 0;
      return { kind: 'connected', ring, port };
    } catch (error) {
      if (!(error instanceof ChannelError)) throw error;
      this.#failed = key;
      return { kind: 'failed', error, retryMs: this.#retryDelay(error) };
    }
  }

  /** Unbinds and unmaps, in this order: no event may find the page gone. */
  release(): void {
    this.#port?.close();
    this.#page?.release();
    this.#port = undefined;
    this.#page = undefined;
    this.#ring = undefined;
    this.#offer = undefined;
  }

  /** The map must not outlive a bind that failed: the domain would stay a zombie. */
  #bind(page: GrantedPage, { domid, port }: Offer, onEvent: () => void): BoundPort {
    try {
      return this.#hypervisor.events.bind(domid, port, onEvent);
    } catch (error) {
      page.release();
      throw error;
    }
  }

  /** Only a port that somebody else has bound can come free without the guest doing anything. */
  #retryDelay(error: ChannelError): number | undefined {
    if (error.code !== 'port-unbindable') return undefined;
    this.#tries++;
    return this.#tries < MAX_BIND_TRIES ? Math.min(FIRST_RETRY_MS * 2 ** (this.#tries - 1), LAST_RETRY_MS) : undefined;
  }
}
