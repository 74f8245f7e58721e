/**
 * The guest's bytes on their way from the ring to the client: collected, written, kept in the spool while the client is
 * slow or away, and every one of them accounted for. Knows neither the doorbell nor the other direction.
 */
import type { Chardev } from '../chardev/chardev.js';
import type { SpoolQueue } from '../chardev/spool.js';
import { type BackendRing, OUT_BYTES } from '../console/ring.js';
import { BATCH_BYTES, type BatchBuffers } from './batch.js';
import { BULK_BYTES } from './hover.js';
import { Patience, type PatienceOptions } from './patience.js';
import type { SessionHooks } from './session-types.js';

const NOTHING = new Uint8Array(0);

export interface OutletOptions {
  readonly chardev: Chardev;
  readonly spool: SpoolQueue;
  readonly batches: BatchBuffers;
  readonly patience: PatienceOptions;
  readonly hooks: Pick<SessionHooks, 'onOutput' | 'onDropped'>;
}

export class Outlet {
  readonly #chardev: Chardev;
  readonly #spool: SpoolQueue;
  readonly #batches: BatchBuffers;
  readonly #patience: Patience;
  readonly #hooks: OutletOptions['hooks'];
  /** What waits in a batch counts as spooled: a crash may cost as much, and no more. */
  readonly #batchLimit: number;
  #batch: Uint8Array | undefined;
  #batched = 0;
  /** The newest bytes of a spool that survives us, collected there instead of in a batch. */
  #fresh = 0;
  /** Where they are collected, and how much of it is used. Good for nothing while there are none. */
  #reserved: Uint8Array = NOTHING;
  #used = 0;
  /** The client was idle, and what came for it is in the spool. */
  #mustFlush = false;
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

  get fromGuestBytes(): number {
    return this.#fromGuestBytes;
  }

  figures() {
    return {
      fromGuestBytes: this.#fromGuestBytes,
      deliveredBytes: this.#deliveredBytes,
      spoolBytes: this.#spool.size,
      spoolLimitBytes: this.#spool.limitBytes,
      droppedBytes: this.#spool.dropped,
      spool: this.#spool.storage,
      ...this.#patience.figures,
    };
  }

  /**
   * Takes what is in the ring, at most one ring, and gives the space back; returns how much. The caller calls `settle`
   * when it takes no more for now.
   */
  take(ring: BackendRing, { patient }: { readonly patient: boolean }): number {
    const pending = ring.outPending();
    if (pending === 0) return 0;
    // Right behind bytes that were collected a moment ago: what was asked then holds.
    if (this.#fresh > 0 && this.#reserved.length - this.#used >= OUT_BYTES) return this.#takeLasting(ring, pending);
    const idle = this.#chardev.connected && this.#spool.size === this.#fresh;
    if (!idle || this.#batchLimit < OUT_BYTES) return this.#takeSpooled(ring, patient);
    if (this.#spool.storage === 'memory') return this.#takeBatched(ring, pending);
    if (pending < BULK_BYTES && this.#fresh === 0) return this.#takePassing(ring, pending);
    return this.#reserve(pending) ? this.#takeLasting(ring, pending) : this.#takeSpooled(ring, patient);
  }

  /** Whatever was collected leaves this call's hands. */
  settle(): void {
    this.#settleFresh();
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
    this.#spool.keepBehind(this.#chardev.unconfirmedBytes ?? 0);
    while (this.#spool.size > 0) {
      // What one write hands to the kernel may come twice when we die before it is marked.
      const bytes = this.#spool.peek(BATCH_BYTES);
      const taken = this.#write(bytes);
      this.#spool.consume(taken, this.#chardev.unconfirmedBytes ?? 0);
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
    const excess = this.#spool.prepend(state.output);
    this.#spool.setTotals({ receivedBytes: state.fromGuestBytes, droppedBytes: state.droppedBytes + excess });
  }

  /** Ends the host side, with the rest for the client; what it does not take stays in the spool. */
  async close(options: { readonly lingerMs?: number }): Promise<void> {
    this.#patience.end();
    // It stays in the spool until the client has it: we may be killed while it takes its time.
    const tail = this.#spool.copyAll();
    const unwritten = await this.#chardev.close({ ...options, tail });
    this.#deliveredBytes += tail.length - unwritten.length;
    this.#spool.keepLast(unwritten);
  }

  /** What the next process will not find by itself. */
  leave(): Buffer {
    return this.#spool.leave();
  }

  /**
   * A guest that has filled its ring spins until it gets space: that comes first, and its bytes are collected for one
   * write. What does not fill the ring is the end of something: it is handed on before the space is given back, so that
   * a crash may repeat but not lose it (design D23).
   */
  #takeBatched(ring: BackendRing, pending: number): number {
    this.#batch ??= this.#batches.borrow();
    const count = ring.peekOut(this.#batch, this.#batched, pending);
    this.#batched += count;
    if (count < OUT_BYTES || this.#batched + OUT_BYTES > this.#batchLimit) this.settle();
    ring.publishConsumed(count);
    return count;
  }

  /**
   * Straight from the ring into memory that survives us: then the guest may have its space back at once. What comes next
   * is between the spool and the client.
   */
  #takeLasting(ring: BackendRing, pending: number): number {
    const count = ring.peekOut(this.#reserved, this.#used, pending);
    this.#used += count;
    this.#spool.commit(count);
    this.#fresh += count;
    ring.publishConsumed(count);
    if (this.#fresh + OUT_BYTES > this.#batchLimit) this.#settleFresh();
    return count;
  }

  /** For a ring and, when this one is full and more is likely, for a whole batch: making a view costs as much as a copy. */
  #reserve(pending: number): boolean {
    const most = pending === OUT_BYTES ? this.#batchLimit - this.#fresh : OUT_BYTES;
    const reserved = this.#spool.reserve(most) ?? this.#spool.reserve(OUT_BYTES);
    if (reserved === undefined) return false;
    this.#reserved = reserved;
    this.#used = 0;
    return true;
  }

  /**
   * A word, no burst, for a client that is waiting: the kernel has it before the guest gets its space back, so that it need
   * not stand in the spool. What the client does not take at once does.
   */
  #takePassing(ring: BackendRing, pending: number): number {
    const piece = this.#batches.borrow();
    const count = ring.peekOut(piece, 0, pending);
    const bytes = piece.subarray(0, count);
    this.#tell(bytes);
    const taken = this.#write(bytes);
    const passed = Math.max(0, taken - (this.#chardev.unconfirmedBytes ?? 0));
    if (passed > 0) this.#spool.pass(passed);
    if (passed < count) this.#keepRest(bytes.subarray(passed), taken - passed);
    this.#batches.giveBack(piece);
    ring.publishConsumed(count);
    return count;
  }

  /** `taken` of them were taken, but only this process has them. */
  #keepRest(bytes: Uint8Array, taken: number): void {
    if (this.#spool.append(bytes) > 0) this.#hooks.onDropped?.();
    this.#spool.consume(taken, this.#chardev.unconfirmedBytes ?? 0);
  }

  #settleFresh(): void {
    if (this.#fresh === 0) return;
    const bytes = this.#spool.peek(this.#fresh);
    this.#fresh = 0;
    this.#tell(bytes);
    this.flush();
  }

  #takeSpooled(ring: BackendRing, patient: boolean): number {
    this.settle();
    const piece = this.#batches.borrow();
    const count = ring.peekOut(piece.subarray(0, this.#allowed(ring, patient)), 0);
    if (count > 0) this.#handOn(piece.subarray(0, count));
    this.#batches.giveBack(piece);
    if (count > 0) ring.publishConsumed(count);
    if (this.#mustFlush) this.flush();
    this.#mustFlush = false;
    return count;
  }

  #allowed(ring: BackendRing, patient: boolean): number {
    if (!patient || !this.#chardev.connected) return OUT_BYTES;
    const room = this.#spool.limitBytes - this.#spool.size;
    if (room > 0) return Math.min(room, OUT_BYTES);
    return ring.outIsEmpty() || this.#patience.wait() ? 0 : OUT_BYTES;
  }

  /**
   * To the client, or into the spool: in either case it is ours no more when this returns. Into a spool that survives us
   * in any case, and from there to the client when the guest has its space back.
   */
  #handOn(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#tell(bytes);
    const idle = this.#spool.size === 0 && this.#chardev.connected;
    if (this.#spool.storage === 'file') {
      if (this.#spool.append(bytes) > 0) this.#hooks.onDropped?.();
      this.#mustFlush = idle;
      return;
    }
    const taken = idle ? this.#write(bytes) : 0;
    if (taken < bytes.length && this.#spool.append(bytes.subarray(taken)) > 0) this.#hooks.onDropped?.();
  }

  /** For those beside the client. */
  #tell(bytes: Uint8Array): void {
    this.#fromGuestBytes += bytes.length;
    if (this.#chardev.viewed) this.#chardev.show(bytes);
    this.#hooks.onOutput?.(bytes);
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
