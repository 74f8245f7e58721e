/**
 * One served channel from its discovery to its end: watches nothing itself, but is told to look, decides by the tables
 * of handshake.ts, and keeps xenstore, ring and host end in step. Knows no other channel.
 */
import type { Clock, Timer } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import type { Chardev } from '../chardev/chardev.js';
import type { XenbusState } from '../console/xenbus-state.js';
import type { Hypervisor } from '../hypervisor/ports.js';
import type { BatchBuffers } from './batch.js';
import type { ChannelNodes, Sight } from './channel-nodes.js';
import type { ChannelConfig } from './discovery.js';
import type { EventLog } from './events.js';
import { GuestNews } from './guest-news.js';
import type { HandoverRecord, Taken } from './handover.js';
import {
  BACKEND_STATE,
  type FrontendSight,
  initialPhase,
  ON_FRONTEND,
  onDetach,
  type Phase,
  type Step,
} from './handshake.js';
import { HostEnd } from './host-end.js';
import { Inheritance } from './inheritance.js';
import { LookAgain } from './look-again.js';
import { OutputFeed } from './output-feed.js';
import { Problems } from './problems.js';
import { Reporter } from './reporter.js';
import { RingConnector } from './ring-connector.js';
import { ChannelSession } from './session.js';
import type { OpenedSpool } from './spool-files.js';
import { type ChannelStatus, describeChannel, ledgerOf } from './status.js';
import { Timers, type TurnQueue } from './turns.js';

/** A guest that does not close its end keeps the ring mapped no longer than this after a detach. */
export const DRAIN_TIMEOUT_MS = 10_000;
/** How long a client may take the last bytes of a channel that is gone. */
export const LINGER_MS = 2000;
/** While a guest rings without need. */
const IDLE_PAUSE_MS = 10;

export interface ControllerOptions {
  readonly config: ChannelConfig;
  readonly backendState: XenbusState | undefined;
  readonly nodes: ChannelNodes;
  readonly hypervisor: Hypervisor;
  readonly clock: Clock;
  readonly log: Logger;
  readonly turns: TurnQueue;
  readonly batches: BatchBuffers;
  readonly chardev: Chardev;
  readonly spool: OpenedSpool;
  readonly handover: Taken;
  readonly events: EventLog;
  /** The channel is over; everything is given back, apart from a client that still takes the last bytes. */
  readonly onEnded: (lingering: Promise<void>) => void;
}

export class ChannelController {
  readonly config: ChannelConfig;
  /** The guest's bytes for those beside the host end. */
  readonly output = new OutputFeed(() => this.#session.fromGuestBytes);
  /** Gives back memory that nobody uses; called now and then. */
  readonly tidy = (): void => this.#options.spool.spool.tidy();
  readonly #options: ControllerOptions;
  readonly #log: Logger;
  readonly #nodes: ChannelNodes;
  readonly #timers: Timers;
  readonly #looks: LookAgain;
  readonly #session: ChannelSession;
  readonly #hostEnd: HostEnd;
  readonly #ring: RingConnector;
  readonly #problems: Problems;
  readonly #inheritance: Inheritance;
  readonly #news: GuestNews;
  readonly #reporter: Reporter;
  #replaced: ChannelStatus['replaced'] = null;
  #phase: Phase;
  #backendState: XenbusState | undefined;
  #frontend: FrontendSight = 'gone';
  #detaching = false;
  #drainTimer: Timer | undefined;
  /** The host end was closed because of a detach; what is pending is the client that takes the last bytes. */
  #retired: Promise<void> | undefined;
  #state: 'running' | 'stopping' | 'over' = 'running';

  constructor(options: ControllerOptions) {
    const { spool, found } = options.spool;
    const { config, clock, log, turns, batches, chardev, events } = options;
    this.config = config;
    this.#options = options;
    this.#log = log;
    this.#nodes = options.nodes;
    this.#timers = new Timers(clock);
    this.#reporter = new Reporter({ events, log, clock, timers: this.#timers, status: () => this.status() });
    this.#problems = new Problems(log, () => this.#reporter.look());
    this.#looks = new LookAgain({
      clock,
      timers: this.#timers,
      look: () => this.#evaluate(),
      onFailure: (error) => this.#problems.report('store', error),
      onSuccess: () => this.#problems.solved('store'),
    });
    const report = { timers: this.#timers, problems: this.#problems };
    this.#hostEnd = new HostEnd({ chardev, ...report, onTried: () => this.touch() });
    this.#news = new GuestNews(options.nodes, chardev);
    this.#session = new ChannelSession({
      chardev,
      spool,
      batches,
      clock: this.#timers,
      speakFirst: config.speakFirst,
      hooks: {
        onClient: (connected) => this.#clientChanged(connected),
        onIllegalIndex: () =>
          this.#problems.guest('ring-indices-illegal', 'the guest published impossible ring indices'),
        onChardevFailure: (error) => this.#problems.report('chardev', error),
        onOutput: (bytes) => this.output.push(bytes),
        onDropped: () => this.#reporter.dropped(),
        defer: (turn) => turns.defer(turn),
        slowDown: (resume) => void this.#timers.after(IDLE_PAUSE_MS, resume),
      },
    });
    const shared = { config, clock, nodes: options.nodes, ...report };
    this.#ring = new RingConnector({
      ...shared,
      hypervisor: options.hypervisor,
      session: this.#session,
      looks: this.#looks,
      spool,
      servedBefore: found.kind === 'recovered' ? found.source : undefined,
      onAttached: (resumed) => {
        this.#restore();
        this.#inheritance.resumed(resumed);
      },
    });
    this.#phase = initialPhase(options.backendState);
    this.#backendState = options.backendState;
    this.#inheritance = new Inheritance({ ...options, found, spool, onChange: () => this.#reporter.look() });
  }

  /** First the ring, whose guest may be spinning already (design D24), then the host end. */
  async start(): Promise<void> {
    this.#reporter.appeared();
    this.touch();
    await this.#looks.settled();
    if (this.#state !== 'running') return;
    this.#restore();
    if (this.#retired === undefined) this.#hostEnd.open(this.#session);
  }

  /** Something of this channel has changed in xenstore: look again. */
  touch(): void {
    if (this.#state === 'running') this.#looks.now();
  }

  /** The domain is gone, or the backend directory: everything is given back at once, nothing is written. */
  end(reason: string): void {
    if (this.#state !== 'running') return;
    this.#state = 'over';
    this.#looks.stop();
    this.#release({ drain: true });
    this.#timers.stop();
    this.#log.log('info', 'channel over', { reason, ...ledgerOf(this.#session.figures()) });
    this.#reporter.gone(reason);
    this.output.close();
    const { spool } = this.#options.spool;
    spool.forget();
    const closed = this.#retired ?? this.#session.close({ lingerMs: LINGER_MS });
    this.#options.onEnded(closed.finally(() => spool.abandon()));
  }

  /** Orderly: the state stays Connected, and what only this process knows is returned. */
  async stop(): Promise<HandoverRecord | undefined> {
    if (this.#state !== 'running') return undefined;
    this.#state = 'stopping';
    this.#looks.stop();
    this.#timers.stop();
    await this.#looks.settled();
    await this.#hostEnd.settled();
    this.#restore();
    // The session goes on meanwhile: whoever is accepted now is served as any other client.
    await this.#options.chardev.stopAccepting?.();
    await this.#session.close();
    await this.#news.tellTty().catch((error) => this.#problems.report('store', error));
    const { domid, deviceId, uuid } = this.config;
    const ring = this.#ring.served;
    const record = { domid, deviceId, uuid, ring, session: this.#session.state() };
    this.#release({ drain: false });
    this.#state = 'over';
    return record;
  }

  /** What a SIGKILL does to this channel. */
  abandon(): void {
    this.#state = 'over';
    this.#looks.stop();
    this.#timers.stop();
    this.#options.chardev.abandon();
    this.#options.spool.spool.abandon();
    this.#ring.release({ drain: false });
  }

  get holdsRing(): boolean {
    return this.#ring.mapped;
  }

  status(): ChannelStatus {
    return describeChannel({
      config: this.config,
      session: this.#session.figures(),
      chardev: this.#options.chardev.figures(),
      phase: this.#phase,
      frontendState: this.#frontend,
      backendState: this.#backendState ?? null,
      detaching: this.#detaching,
      hostOpen: this.#options.chardev.connected,
      gap: this.#inheritance.gap,
      recovered: this.#inheritance.recovered,
      malformed: this.#problems.malformed,
      connects: this.#ring.connects,
      problems: this.#problems.current(),
      replaced: this.#replaced,
    });
  }

  /** Lets the host speak before the guest has (design D15). */
  allowSpeakingFirst(): void {
    this.#session.allowSpeakingFirst();
  }

  /** Sends the writing client away in favour of `by`. False: there is none, or it is no client that can be sent away. */
  releaseWriter(by: string): boolean {
    const { chardev, clock } = this.#options;
    if (this.#state !== 'running' || !chardev.connected || chardev.releaseWriter === undefined) return false;
    this.#log.log('info', 'the writing client is sent away', { by });
    this.#replaced = { at: new Date(clock.now()).toISOString(), by };
    this.#reporter.replaced(by);
    return chardev.releaseWriter();
  }

  // --- looking and deciding ------------------------------------------------------------------------------------------

  async #evaluate(): Promise<void> {
    const sight = await this.#nodes.look();
    if (this.#state !== 'running') return;
    if (!sight.backendPresent) return this.end('the toolstack removed the backend');
    this.#note(sight);
    if (this.#retired !== undefined && !this.#detaching) return this.end('the toolstack wants it back: begin anew');
    const { frontend } = sight;
    await this.#take(this.#detaching ? onDetach(frontend, this.#phase) : ON_FRONTEND[frontend][this.#phase]);
    if (this.#state !== 'running') return;
    this.#session.setGuestOpen(sight.guestOpen === '1' ? true : sight.guestOpen === '0' ? false : undefined);
    this.#reporter.look();
    if (sight.asksIdentity && this.#ring.mapped) await this.#identify();
    if (this.#detaching && this.#phase === 'closed') await this.#retire();
    await this.#tellState(sight);
    if (this.#phase === 'connected' && this.#state === 'running') await this.#news.tellHostOpen();
    if (this.#state === 'running') await this.#news.tellTty();
  }

  /** Before the backend says Closed: whoever waits for that may use the path again at once. */
  async #retire(): Promise<void> {
    await this.#hostEnd.settled();
    if (this.#state === 'running') this.#retired ??= this.#session.close({ lingerMs: LINGER_MS });
  }

  #note(sight: Sight): void {
    this.#frontend = sight.frontend;
    this.#backendState = sight.backendState;
    this.#detaching = !sight.online || (sight.backendState === 'closing' && this.#phase !== 'closing');
    if (sight.frontend === 'gone') this.#news.forget();
    if (sight.frontend === 'invalid') {
      this.#problems.guest('frontend-malformed', 'the frontend state is no state', sight.stateText);
    }
  }

  async #take(step: Step): Promise<void> {
    if (step.do === 'map-ring' && !(await this.#connect())) {
      // Without a ring there is nothing to drain: a detach need not wait.
      if (this.#detaching && this.#state === 'running') this.#enter('closed');
      return;
    }
    if (step.do === 'release-ring') this.#release({ drain: true });
    if (step.next !== 'unchanged') this.#enter(step.next);
  }

  #enter(phase: Phase): void {
    if (phase === this.#phase) return;
    this.#log.log('info', `channel ${phase}`, { from: this.#phase, frontend: this.#frontend });
    this.#phase = phase;
    this.#reporter.look();
    // What was decided for this phase may not be all: a frontend that closed may have begun anew already.
    this.touch();
    if (phase === 'closing') this.#drainTimer ??= this.#timers.after(DRAIN_TIMEOUT_MS, () => this.#drainedLongEnough());
  }

  #drainedLongEnough(): void {
    this.#log.log('warn', `the guest did not close its end within ${DRAIN_TIMEOUT_MS} ms: the ring is given back`);
    this.#release({ drain: true });
    this.#enter('closed');
  }

  // --- the ring ------------------------------------------------------------------------------------------------------

  async #connect(): Promise<boolean> {
    const outcome = await this.#ring.connect(() => this.#state === 'running');
    if (outcome === 'other-domain') this.end('the domain id belongs to another domain now');
    return outcome === 'connected';
  }

  #release(how: { readonly drain: boolean }): void {
    this.#ring.release(how);
    this.#drainTimer?.cancel();
    this.#drainTimer = undefined;
  }

  /** Before the first byte of this daemon moves: what the one before it left. */
  #restore(): void {
    const inherited = this.#inheritance.claim(this.#ring.served);
    if (inherited !== undefined) this.#session.restore(inherited);
  }

  // --- what is told --------------------------------------------------------------------------------------------------

  #clientChanged(connected: boolean): void {
    if (this.#state !== 'running') return;
    this.#log.log('info', connected ? 'client connected' : 'client gone');
    this.#reporter.look();
    this.touch();
  }

  async #identify(): Promise<void> {
    const taken = await this.#nodes.takeNonce();
    if (this.#state !== 'running') return;
    if (taken.kind === 'malformed') this.#problems.guest('frontend-malformed', 'the identify key holds no nonce');
    if (taken.kind === 'nonce') this.#session.identify(taken.nonce);
  }

  async #tellState(sight: Sight): Promise<void> {
    const state = BACKEND_STATE[this.#phase];
    if (sight.backendState === state || this.#state !== 'running') return;
    if (state === 'connected' && !this.#hostEnd.tried) return; // who waits for that may open it at once
    if (await this.#nodes.writeState(state)) this.#backendState = state;
  }
}
