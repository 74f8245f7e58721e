/**
 * What goes into a channel's session and what comes out of it. Types and promises only.
 */
import type { Clock } from '../base/clock.js';
import type { Chardev } from '../chardev/chardev.js';
import type { SpoolQueue } from '../chardev/spool.js';
import { OUT_BYTES } from '../console/ring.js';
import { BATCH_BYTES, type BatchBuffers } from './batch.js';

/**
 * What a daemon that dies without a word (SIGKILL) can cost one channel whose spool is in memory. The order at the ring
 * is: first to the kernel's socket buffer or into the spool, then `out_cons`. So what is lost is what only this process
 * had: the spool, the piece a slow client's socket had no room for, and client bytes not yet in the ring. What a guest in
 * full flow has written is collected within one call while the spool is empty, and never more than the spool may hold: it
 * counts as such. What is repeated is the one piece that was handed on and not yet published. An orderly stop loses and
 * repeats nothing (handover.ts).
 *
 * With the spool in a file nothing from the guest is lost: every byte is in the file before the guest gets its space back,
 * and stays there until the kernel has it for the client. See FILE_CRASH_BOUND.
 */
export const CRASH_BOUND = {
  /** To the spool's limit. */
  lostFromGuestBytesBesidesSpool: 4096,
  repeatedFromGuestBytes: OUT_BYTES,
  /** One read of 64 KiB under way to the ring and one read ahead, besides what the client's socket buffer holds. */
  lostFromClientBytes: 2 * 65536,
} as const;

export const FILE_CRASH_BOUND = {
  lostFromGuestBytes: 0,
  /** One write that the kernel took and that was not yet marked. */
  repeatedFromGuestBytes: BATCH_BYTES,
  lostFromClientBytes: CRASH_BOUND.lostFromClientBytes,
} as const;

export interface SessionHooks {
  /** The writing client came or went. */
  onClient(connected: boolean): void;
  /** The guest published an index that no correct guest can publish; told once for each ring. */
  onIllegalIndex(): void;
  onChardevFailure(error: Error): void;
  /** Fresh bytes of the guest, for those beside the host end; valid only during the call. */
  onOutput?(bytes: Uint8Array): void;
  /** The spool had no room for all bytes. Called for each piece of them. */
  onDropped?(): void;
  /** Runs `turn` when others had their turn. */
  defer(turn: () => void): void;
  /** Runs `resume` after a pause, because the guest rings without need. */
  slowDown(resume: () => void): void;
}

export interface SessionOptions {
  readonly chardev: Chardev;
  readonly spool: SpoolQueue;
  /** Shared by all sessions. */
  readonly batches: BatchBuffers;
  readonly clock: Clock;
  readonly hooks: SessionHooks;
  /** True: the host may speak before the guest has (design D15 switched off). */
  readonly speakFirst: boolean;
}

/** What an orderly restart must carry over. */
export interface SessionState {
  readonly fromGuestBytes: number;
  readonly toGuestBytes: number;
  readonly deliveredBytes: number;
  readonly droppedBytes: number;
  readonly spoken: boolean;
  /** An answer stands in the ring, unread. */
  readonly answering: boolean;
  readonly output: Uint8Array;
  readonly input: Uint8Array;
  /** An identification that was asked for and not answered. */
  readonly nonce?: string;
}
