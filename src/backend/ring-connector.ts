/**
 * Connects a session to the ring that the guest offers, and takes it away again: reads the offer, checks whose it is,
 * maps, binds, and decides when a failed offer is tried again. Knows nothing of states.
 */
import type { Clock } from '../base/clock.js';
import type { SpoolQueue } from '../chardev/spool.js';
import type { SourceMark } from '../chardev/spool-header.js';
import type { Hypervisor } from '../hypervisor/ports.js';
import type { ChannelNodes, RingOffer } from './channel-nodes.js';
import type { ChannelConfig } from './discovery.js';
import type { ServedRing } from './handover.js';
import type { LookAgain } from './look-again.js';
import type { Problems } from './problems.js';
import { type Resumed, resumeRing } from './resume-ring.js';
import { RingLink } from './ring-link.js';
import type { ChannelSession } from './session.js';
import { RateLimit, type Timers } from './turns.js';

/** A frontend that connects more often than this waits; releasing never does. */
export const CONNECT_LIMIT = { count: 8, windowMs: 10_000 };

export interface RingConnectorOptions {
  readonly config: ChannelConfig;
  readonly nodes: ChannelNodes;
  readonly hypervisor: Hypervisor;
  readonly session: ChannelSession;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly looks: LookAgain;
  readonly problems: Problems;
  readonly spool: SpoolQueue;
  /** The ring that the spool's newest byte came from, according to a daemon that was killed, and where it stood. */
  readonly servedBefore: SourceMark | undefined;
  /** The ring is there and nothing has moved yet. */
  readonly onAttached: (resumed: Resumed) => void;
}

export type Connected = 'connected' | 'not-connected' | 'other-domain';

export class RingConnector {
  readonly #options: RingConnectorOptions;
  readonly #limit: RateLimit;
  readonly #link: RingLink;
  #servedBefore: SourceMark | undefined;
  #connects = 0;

  constructor(options: RingConnectorOptions) {
    this.#options = options;
    this.#limit = new RateLimit(options.clock, CONNECT_LIMIT);
    this.#link = new RingLink(options.hypervisor);
    this.#servedBefore = options.servedBefore;
  }

  get mapped(): boolean {
    return this.#link.mapped;
  }

  get served(): ServedRing | undefined {
    return this.#link.served;
  }

  get connects(): number {
    return this.#connects;
  }

  /** `stillWanted` is asked after xenstore was: the channel may be over by then. */
  async connect(stillWanted: () => boolean): Promise<Connected> {
    const { config, nodes } = this.#options;
    const offer = await nodes.readOffer();
    if (!stillWanted()) return 'not-connected';
    if (offer.uuid !== config.uuid) return 'other-domain';
    return this.#accept(offer) ? 'connected' : 'not-connected';
  }

  /** `drain`: takes the guest's last words first. */
  release(how: { readonly drain: boolean }): void {
    this.#options.session.detachRing(how);
    this.#link.release();
  }

  #accept({ ringRef, port, ringRefText, portText }: RingOffer): boolean {
    const { config, session, problems, timers, spool, onAttached } = this.#options;
    const { domid } = config;
    if (ringRef === undefined || port === undefined) {
      problems.guest('frontend-malformed', 'ring-ref or port is no number', `${ringRefText}/${portText}`);
      return false;
    }
    if (this.#link.isKnownBad({ domid, ringRef, port }) || this.#mustWait()) return false;
    const outcome = this.#link.connect({ domid, ringRef, port }, () => session.onEvent());
    if (outcome.kind === 'failed') {
      problems.report('ring', outcome.error);
      if (outcome.retryMs !== undefined) timers.after(outcome.retryMs, () => this.#tryAgain());
      return false;
    }
    problems.solved('ring');
    this.#connects++;
    const id = [ringRef, port] as const;
    const resumed = resumeRing(outcome.ring, id, this.#servedBefore, spool);
    this.#servedBefore = undefined;
    session.attachRing(outcome.ring, outcome.port);
    onAttached(resumed);
    spool.setSource({ id, position: outcome.ring.outConsumed });
    session.pump();
    return true;
  }

  #mustWait(): boolean {
    const { problems, looks } = this.#options;
    const delayMs = this.#limit.delayMs();
    if (delayMs === 0) return false;
    problems.guest('frontend-flapping', 'the frontend connects too often: it has to wait', 'flapping');
    looks.later(delayMs);
    return true;
  }

  #tryAgain(): void {
    this.#link.forgive();
    this.#options.looks.now();
  }
}
