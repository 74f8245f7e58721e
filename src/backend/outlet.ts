/**
 * The guest's bytes on their way from the ring to the client: collected, written, kept in the spool while the client is
 * slow or away, and every one of them accounted for. Knows neither the doorbell nor the other direction.
 */
import type { Chardev } from '../chardev/chardev.js';
import type { Spool } from '../chardev/spool.js';
import { type BackendRing, OUT_BYTES } from '../console/ring.js';
import { BATCH_BYTES, type BatchBuffers } from './batch.js';
import { Patience, type PatienceOptions } from './patience.js';
import type { SessionHooks } from './session-types.js';

export interface OutletOptions {
  readonly chardev: Chardev;
  readonly spool: Spool;
  readonly batches: BatchBuffers;
  readonly patience: PatienceOptions;
  readonly hooks: Pick<SessionHooks, 'onOutput' | 'onDropped'>;
}

export class Outlet {
  readonly #chardev: Chardev;
  readonly #spool: Spool;
  readonly #batches: BatchBuffers;
  readonly #patience: Patience;
  readonly #hooks: OutletOptions['hooks'];
  /** What waits in a batch counts as spooled: a crash may cost as much, and no more. */
  readonly #batchLimit: number;
  #batch: Uint8Array | undefined;
  #batched = 0;
  #fromGuestBytes = 0;
  #deliveredBytes = 0;

  constructor({ chardev, spool, batches, patience, hooks }: OutletOptions) {
    this.#chardev = chardev;
    this.#spool = spool;
    this.#batches = batches;
    this.#hooks = hooks;
    this.#patience = new Patience(patience);
    this.#batchLimit = Math.min(BATCH_BYTES, spool.limitBytes);
  }

  /** The guest is held up: there is no room, and the client is given a moment to make some. */
  get stalled(): boolean {
    return this.#patience.waiting;
  }

  figures() {
    return {
      fromGuestBytes: this.#fromGuestBytes,
      deliveredBytes: this.#deliveredBytes,
      spoolBytes: this.#spool.size,
      spoolLimitBytes: this.#spool.limitBytes,
      droppedBytes: this.#spool.dropped,
      ...this.#patience.figures,
    };
  }

  /**
   * Takes what is in the ring, at most one ring, and gives the space back; returns how much. The caller calls `settle`
   * when it takes no more for now.
   */
  take(ring: BackendRing, { patient }: { readonly patient: boolean }): number {
    const direct = this.#chardev.connected && this.#spool.size === 0 && this.#batchLimit >= OUT_BYTES;
    return direct ? this.#takeBatched(ring) : this.#takeSpooled(ring, patient);
  }

  /** Whatever was collected leaves this call's hands. */
  settle(): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    const bytes = batch.subarray(0, this.#batched);
    this.#batch = undefined;
    this.#batched = 0;
    this.#handOn(bytes);
    this.#batches.giveBack(batch);
  }

  /** Gives the client what waits for it, as much as it takes. */
  flush(): void {
    while (this.#spool.size > 0) {
      const bytes = this.#spool.peek();
      const taken = this.#write(bytes);
      this.#spool.consume(taken);
      if (taken < bytes.length) return;
    }
  }

  /** Bytes that were delivered and came back, because the client has gone. */
  takeBack(bytes: Uint8Array): void {
    this.#deliveredBytes -= bytes.length;
    this.#spool.prepend(bytes);
  }

  /** Nobody is waited for. */
  endWaiting(): void {
    this.#patience.end();
  }

  restore(state: {
    readonly fromGuestBytes: number;
    readonly deliveredBytes: number;
    readonly droppedBytes: number;
    readonly output: Uint8Array;
  }): void {
    this.#fromGuestBytes = state.fromGuestBytes;
    this.#deliveredBytes = state.deliveredBytes;
    this.#spool.addDropped(state.droppedBytes);
    this.#spool.prepend(state.output);
  }

  /** Ends the host side, with the rest for the client; what it does not take stays in the spool. */
  async close(options: { readonly lingerMs?: number }): Promise<void> {
    this.#patience.end();
    const tail = this.#spool.takeAll();
    const unwritten = await this.#chardev.close({ ...options, tail });
    this.#deliveredBytes += tail.length - unwritten.length;
    this.#spool.prepend(unwritten);
  }

  takeAll(): Buffer {
    return this.#spool.takeAll();
  }

  /**
   * A guest that has filled its ring spins until it gets space: that comes first, and its bytes are collected for one
   * write. What does not fill the ring is the end of something: it is handed on before the space is given back, so that
   * a crash may repeat but not lose it (design D23).
   */
  #takeBatched(ring: BackendRing): number {
    this.#batch ??= this.#batches.borrow();
    const count = ring.peekOut(this.#batch, this.#batched);
    if (count === 0) return 0;
    this.#batched += count;
    if (count < OUT_BYTES || this.#batched + OUT_BYTES > this.#batchLimit) this.settle();
    ring.publishConsumed(count);
    return count;
  }

  #takeSpooled(ring: BackendRing, patient: boolean): number {
    this.settle();
    const piece = this.#batches.borrow();
    const count = ring.peekOut(piece.subarray(0, this.#room(ring, patient)), 0);
    if (count > 0) this.#handOn(piece.subarray(0, count));
    this.#batches.giveBack(piece);
    if (count > 0) ring.publishConsumed(count);
    return count;
  }

  #room(ring: BackendRing, patient: boolean): number {
    if (!patient || !this.#chardev.connected) return OUT_BYTES;
    const room = this.#spool.limitBytes - this.#spool.size;
    if (room > 0) return Math.min(room, OUT_BYTES);
    return ring.outIsEmpty() || this.#patience.wait() ? 0 : OUT_BYTES;
  }

  /** To the client, or into the spool: in either case it is ours no more when this returns. */
  #handOn(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#fromGuestBytes += bytes.length;
    if (this.#chardev.viewed) this.#chardev.show(bytes);
    this.#hooks.onOutput?.(bytes);
    const taken = this.#spool.size === 0 && this.#chardev.connected ? this.#write(bytes) : 0;
    if (taken < bytes.length && this.#spool.append(bytes.subarray(taken)) > 0) this.#hooks.onDropped?.();
  }

  #write(bytes: Uint8Array): number {
    const taken = this.#chardev.write(bytes);
    this.#deliveredBytes += taken;
    if (taken > 0) {
      this.#patience.end();
      this.#patience.took(taken);
    }
    return taken;
  }
}
