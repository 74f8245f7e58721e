/**
 * One served channel: moves bytes between the ring and the host end, draining the guest, never trusting it. Does
 * no I/O of its own and knows no xenstore: its owner hands it a mapped ring and is called back.
 */
import type { Chardev, ChardevEvents, CloseOptions } from '../chardev/chardev.js';
import { IDENTIFY_ANSWER_PREFIX } from '../console/layout.js';
import { type BackendRing, IN_BYTES, OUT_BYTES } from '../console/ring.js';
import { BellCost } from './bell-cost.js';
import { type Doorbell, PacedDoorbell } from './doorbell.js';
import { BULK_BYTES, Hover } from './hover.js';
import { InputQueue } from './input-queue.js';
import { Outlet } from './outlet.js';
import type { SessionHooks, SessionOptions, SessionState } from './session-types.js';

/** Ring turns in one go: 128 KiB from the guest, then others get theirs. */
const MAX_TURNS = 64;
/** Made once: a turn should leave nothing for the garbage collector. */
const PATIENTLY: { readonly patient: boolean } = { patient: true };
/** Of this machine, and so for all. */
const bellCost = new BellCost();

export class ChannelSession implements ChardevEvents {
  readonly #chardev: Chardev;
  readonly #outlet: Outlet;
  readonly #hooks: SessionHooks;
  readonly #input = new InputQueue();
  readonly #outHover = new Hover(bellCost);
  readonly #inHover = new Hover(bellCost);
  #speakFirst: boolean;
  #ring: BackendRing | undefined;
  #doorbell: PacedDoorbell | undefined;
  #pumping = false;
  /** The guest has got space that it was not told of. */
  #owesBell = false;
  #again = false;
  #deferred = false;
  #illegalTold = false;
  #spoken = false;
  #guestOpen: boolean | undefined;
  #nonce: string | undefined;
  /** An answer stands in the ring: client bytes must not follow before it is read. */
  #answering = false;
  #closed = false;
  #figures = { toGuestBytes: 0, events: 0, idleEvents: 0, identifyAnswers: 0 };
  #illegalIndices = 0;

  constructor({ chardev, spool, batches, clock, hooks, speakFirst }: SessionOptions) {
    this.#chardev = chardev;
    const patience = { clock, defer: hooks.defer, onSpent: () => this.pump() };
    this.#outlet = new Outlet({ chardev, spool, batches, patience, hooks });
    this.#hooks = hooks;
    this.#speakFirst = speakFirst;
  }

  // --- the ring ------------------------------------------------------------------------------------------------------

  get ring(): BackendRing | undefined {
    return this.#ring;
  }

  /** From now on the ring is served. The caller pumps once: what is in it came before the first event. */
  attachRing(ring: BackendRing, doorbell: Doorbell): void {
    this.#ring = ring;
    this.#doorbell = new PacedDoorbell(doorbell, this.#hooks.slowDown, bellCost);
    this.#illegalTold = false;
    this.#answering = false;
    // A fresh page begins at zero: after a daemon's crash the index still says that this guest has spoken.
    this.#spoken = ring.outConsumed !== 0;
    // A daemon that was killed may have published without ringing, and this guest sleeps.
    this.#owesBell = ring.outConsumed !== 0 || ring.inProduced !== 0;
    ring.announce();
  }

  /** Lets go of the ring; afterwards the page may be unmapped. `drain`: takes the guest's last words first. */
  detachRing({ drain }: { readonly drain: boolean }): void {
    this.#outlet.endWaiting();
    if (drain && this.#ring !== undefined) this.#drainFully(this.#ring);
    this.#illegalIndices += this.#ring?.illegalIndices ?? 0;
    this.#ring = undefined;
    this.#doorbell?.silence();
    this.#doorbell = undefined;
    this.#nonce = undefined;
  }

  /** The guest rang. The port stays masked until there is nothing left to do. */
  onEvent(): void {
    this.#figures.events++;
    this.#doorbell?.rang();
    this.pump();
  }

  /** Moves what can be moved, within the turn's bound. */
  pump(): void {
    if (this.#pumping) {
      this.#again = true;
      return;
    }
    if (this.#closed) return;
    this.#pumping = true;
    let turns = 0;
    try {
      do {
        this.#again = false;
        while (turns < MAX_TURNS && this.#turn()) turns++;
        if (this.#owesBell) {
          this.#outlet.settle();
          this.#ringBell();
          // It may have gone on at once.
          this.#again = true;
        }
      } while (this.#again && turns < MAX_TURNS);
    } finally {
      this.#pumping = false;
      this.#outlet.settle();
    }
    if (turns === MAX_TURNS) this.#defer();
    // While the guest is held up its port stays masked: it would ring for space that there is not.
    else if (!this.#outlet.stalled) this.#rest(turns > 0);
  }

  // --- what the guest says beside the ring ---------------------------------------------------------------------------

  /** What the guest claims about its own end; undefined where it claims nothing. */
  setGuestOpen(open: boolean | undefined): void {
    if (open === this.#guestOpen) return;
    // A line that was closed is cooked and echoing again when it is next opened: silence, until the guest speaks.
    if (open === false) this.#spoken = false;
    this.#guestOpen = open;
    this.pump();
  }

  allowSpeakingFirst(): void {
    this.#speakFirst = true;
    this.pump();
  }

  /** The guest asks on which of its lines this ring is; `nonce` is checked. A newer question replaces an older one. */
  identify(nonce: string): void {
    this.#nonce = nonce;
    this.pump();
  }

  // --- the chardev ---------------------------------------------------------------------------------------------------

  onClient(connected: boolean): void {
    if (connected) this.#outlet.flush();
    else this.#outlet.endWaiting();
    this.pump();
    this.#hooks.onClient(connected);
  }

  onInput(bytes: Uint8Array): void {
    this.#input.push(bytes);
    this.pump();
    if (this.#input.size === 0) return;
    this.#input.own();
    this.#chardev.pauseInput();
  }

  onWritable(): void {
    this.#outlet.flush();
    this.pump();
  }

  onReturned(bytes: Uint8Array): void {
    this.#outlet.takeBack(bytes);
  }

  onFailure(error: Error): void {
    this.#hooks.onChardevFailure(error);
  }

  // --- beginning, end and figures ------------------------------------------------------------------------------------

  /** Before anything else happens: what the process before this one handed over. */
  restore(state: SessionState): void {
    this.#figures.toGuestBytes = state.toGuestBytes;
    this.#outlet.restore(state);
    this.#input.push(state.input);
    this.#spoken = this.#spoken || state.spoken;
    this.#answering = state.answering;
    this.#nonce ??= state.nonce;
  }

  /** Ends the host side: gives the client the rest within `lingerMs`. Nothing is pumped any more. */
  async close(options: Pick<CloseOptions, 'lingerMs'> = {}): Promise<void> {
    this.#closed = true;
    await this.#outlet.close(options);
  }

  /** After `close`: everything that only this process knows. */
  state(): SessionState {
    const { fromGuestBytes, deliveredBytes, droppedBytes } = this.#outlet.figures();
    return {
      fromGuestBytes,
      toGuestBytes: this.#figures.toGuestBytes,
      deliveredBytes,
      droppedBytes,
      spoken: this.#spoken,
      answering: this.#answering,
      output: this.#outlet.leave(),
      input: this.#input.takeAll(),
      ...(this.#nonce === undefined ? {} : { nonce: this.#nonce }),
    };
  }

  /** True while client bytes are held back because the guest has not spoken yet. */
  get silent(): boolean {
    return !this.#mayWrite();
  }

  /** As in `figures`, for who asks at every piece. */
  get fromGuestBytes(): number {
    return this.#outlet.fromGuestBytes;
  }

  figures() {
    return {
      ...this.#figures,
      ...this.#outlet.figures(),
      inputBytes: this.#input.size,
      inRingBytes: this.#ring?.inPending() ?? 0,
      illegalIndices: this.#illegalIndices + (this.#ring?.illegalIndices ?? 0),
      guestOpen: this.#guestOpen,
      silent: this.silent,
    };
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** No getter: the engine calls into its runtime for a private one. */
  #mayWrite(): boolean {
    return this.#speakFirst || this.#spoken || this.#guestOpen === true;
  }

  /** One turn of the ring; false when nothing moved, and then the guest is not disturbed. */
  #turn(): boolean {
    if (this.#ring === undefined) return false;
    const drained = this.#drain(this.#ring);
    const filled = this.#fill(this.#ring);
    if (drained + filled === 0) return false;
    this.#owesBell = true;
    const goesOn = drained >= BULK_BYTES && this.#outHover.waitForOutput(this.#ring);
    // A guest that still has older bytes to read finds these behind them.
    const waits = filled === IN_BYTES || (filled > 0 && this.#ring.inPending() <= filled);
    // Who has something to read waits for the bell, and who has filled the ring may. Others hear of their space when the
    // client has its bytes.
    if (waits || (drained === OUT_BYTES && !goesOn)) this.#ringBell();
    // What it takes while we wait needs no event of its own.
    if (filled > 0 && this.#input.size > 0) this.#inHover.waitForRoom(this.#ring);
    return true;
  }

  #ringBell(): void {
    this.#owesBell = false;
    this.#doorbell?.notify();
  }

  #drain(ring: BackendRing, how = PATIENTLY): number {
    const count = this.#outlet.take(ring, how);
    if (count > 0) this.#spoken = true;
    return count;
  }

  #fill(ring: BackendRing): number {
    if (this.#answering && !ring.inConsumed()) return 0;
    this.#answering = false;
    if (this.#nonce !== undefined) return this.#answer(ring, this.#nonce);
    if (this.#input.size === 0 || !this.#mayWrite()) return 0;
    const count = this.#input.drainTo(ring);
    this.#figures.toGuestBytes += count;
    if (count > 0 && this.#input.size === 0) this.#chardev.resumeInput();
    return count;
  }

  /** Only into an empty ring, so that the answer stands alone (design D25). */
  #answer(ring: BackendRing, nonce: string): number {
    if (!ring.inConsumed()) return 0;
    this.#nonce = undefined;
    this.#answering = true;
    this.#figures.identifyAnswers++;
    return ring.writeIn(Buffer.from(`${IDENTIFY_ANSWER_PREFIX}${nonce}\n`, 'latin1'));
  }

  /** The last words of a guest that may write at full speed meanwhile: one ring is all it can have written before. */
  #drainFully(ring: BackendRing): void {
    let count = 1;
    for (let taken = 0; taken < OUT_BYTES && count > 0; taken += count) count = this.#drain(ring, { patient: false });
    this.#outlet.settle();
  }

  #defer(): void {
    if (this.#deferred) return;
    this.#deferred = true;
    this.#hooks.defer(() => {
      this.#deferred = false;
      this.pump();
    });
  }

  /** Nothing is left to do: the guest may ring again. */
  #rest(moved: boolean): void {
    if ((this.#ring?.illegalIndices ?? 0) > 0 && !this.#illegalTold) {
      this.#illegalTold = true;
      this.#hooks.onIllegalIndex();
    }
    if (this.#doorbell?.rest(moved) === 'idle') this.#figures.idleEvents++;
  }
}
