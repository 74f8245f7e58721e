/** A session between a fake client and a guest that is an ArrayBuffer: everything a session test needs. */

import { BatchBuffers } from '../../src/backend/batch.js';
import { ChannelSession } from '../../src/backend/session.js';
import type { SessionState } from '../../src/backend/session-types.js';
import { Spool, type SpoolOptions, type SpoolQueue } from '../../src/chardev/spool.js';
import { BackendRing } from '../../src/console/ring.js';
import { FakeChardev } from './fake-chardev.js';
import { FakeClock } from './fake-clock.js';
import { GuestRing } from './guest-ring.js';

/** Bytes of which no two pieces in a row are alike. */
export const pattern = (length: number, seed = 1): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >> 8)) & 255));

export class SessionBench {
  readonly chardev = new FakeChardev();
  readonly clock = new FakeClock();
  readonly spool: SpoolQueue;
  readonly session: ChannelSession;
  guest = new GuestRing();
  readonly clientEvents: boolean[] = [];
  readonly deferred: (() => void)[] = [];
  readonly slowed: (() => void)[] = [];
  notifications = 0;
  unmasks = 0;
  illegalTold = 0;
  /** What the guest does when it is rung. */
  onNotify: () => void = () => {};

  constructor({
    spool = {},
    speakFirst = true,
    batches = new BatchBuffers(),
    queue,
  }: { spool?: Partial<SpoolOptions>; speakFirst?: boolean; batches?: BatchBuffers; queue?: SpoolQueue } = {}) {
    this.spool = queue ?? new Spool({ limitBytes: 1024 * 1024, ...spool });
    this.session = new ChannelSession({
      chardev: this.chardev,
      spool: this.spool,
      batches,
      clock: this.clock,
      speakFirst,
      hooks: {
        onClient: (connected) => this.clientEvents.push(connected),
        onIllegalIndex: () => this.illegalTold++,
        onChardevFailure: (error) => {
          throw error;
        },
        defer: (turn) => this.deferred.push(turn),
        slowDown: (resume) => this.slowed.push(resume),
      },
    });
    this.chardev.bind(this.session);
  }

  /** The guest's ring is mapped, as at the beginning or after a reconnect with a fresh page; or by the next process. */
  attach(guest = this.guest, inherited?: SessionState): this {
    this.guest = guest;
    this.session.attachRing(new BackendRing(guest), {
      notify: () => {
        this.notifications++;
        this.onNotify();
      },
      unmask: () => this.unmasks++,
    });
    if (inherited !== undefined) this.session.restore(inherited);
    this.session.pump();
    return this;
  }

  /** The guest writes and rings; returns how much fitted. */
  speak(bytes: Uint8Array | string): number {
    const count = this.guest.produce(Buffer.from(bytes as string));
    this.session.onEvent();
    return count;
  }

  /** Time passes, and others had their turn. */
  pass(ms: number): void {
    this.clock.advance(ms);
    for (const deferred of this.deferred.splice(0)) deferred();
  }

  /** The guest reads and rings. */
  listen(limit?: number): Buffer {
    const bytes = this.guest.consume(limit);
    if (bytes.length > 0) this.session.onEvent();
    return bytes;
  }
}
