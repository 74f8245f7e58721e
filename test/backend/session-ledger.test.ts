/** One session under any schedule of speaking, reading, leaving and restarting: every byte is accounted for after each step. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PATIENCE_BYTES, PATIENCE_MS } from '../../src/backend/patience.js';
import type { OverflowPolicy } from '../../src/chardev/spool.js';
import { OUT_BYTES } from '../../src/console/ring.js';
import { GuestRing } from '../support/guest-ring.js';
import { pattern, SessionBench } from '../support/session-bench.js';

const NONCE = '0123456789abcdef';
const turn = (): Promise<void> => new Promise((settle) => setImmediate(settle));

describe('the ledger', () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('speak' as const), bytes: fc.integer({ min: 1, max: 3000 }) }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('room' as const), bytes: fc.integer({ min: 1, max: 2000 }) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('send' as const), bytes: fc.integer({ min: 1, max: 3000 }) }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('listen' as const), bytes: fc.integer({ min: 1, max: 1024 }) }),
    },
    fc.record({ kind: fc.constant('connect' as const), bytes: fc.constant(0) }),
    fc.record({ kind: fc.constant('leave' as const), bytes: fc.nat(500) }),
    fc.record({ kind: fc.constant('time' as const), bytes: fc.nat(2 * PATIENCE_MS) }),
    fc.record({ kind: fc.constant('identify' as const), bytes: fc.constant(0) }),
    fc.record({ kind: fc.constant('reconnect' as const), bytes: fc.constant(0) }),
    fc.record({ kind: fc.constant('restart' as const), bytes: fc.constant(0) }),
  );

  /** Runs a schedule; produced = delivered + spooled + dropped, and accepted = heard + in flight, must hold after each step. */
  async function run(
    steps: readonly { kind: string; bytes: number }[],
    options: { limitBytes: number; policy: OverflowPolicy },
  ): Promise<void> {
    let bench = new SessionBench({ spool: options }).attach();
    let produced = 0;
    let delivered = 0;
    let accepted = 0;
    let heard = Buffer.alloc(0);
    let lostInOldRing = 0;
    let returned = 0;
    const spoken: Buffer[] = [];
    const read: Buffer[] = [];
    const sent: Buffer[] = [];
    for (const { kind, bytes } of steps) {
      if (kind === 'speak') {
        const data = pattern(bytes, produced);
        const count = bench.speak(data);
        spoken.push(data.subarray(0, count));
        produced += count;
      } else if (kind === 'room') bench.chardev.makeRoom(bytes);
      else if (kind === 'listen') heard = Buffer.concat([heard, bench.listen(bytes)]);
      else if (kind === 'time') {
        // Millisecond by millisecond: what is deferred must not run later than it would, or the guest waits longer.
        for (let ms = 0; ms < bytes; ms++) bench.pass(1);
      } else if (kind === 'identify') bench.session.identify(NONCE);
      else if (kind === 'send' && bench.chardev.connected) {
        const data = pattern(bytes, accepted);
        sent.push(data);
        accepted += data.length;
        bench.chardev.send(data);
      } else if (kind === 'connect' && !bench.chardev.connected) {
        bench.chardev.room = 1500;
        bench.chardev.connect();
      } else if (kind === 'leave' && bench.chardev.connected && !bench.chardev.paused) {
        bench.chardev.disconnect(Math.min(bytes, bench.chardev.received.length));
        returned++;
      } else if (kind === 'reconnect') {
        bench.session.detachRing({ drain: true });
        lostInOldRing += (bench.guest.get('inProd') - bench.guest.get('inCons')) >>> 0;
        bench.attach(new GuestRing({ out: 0xfffffff0, in: 0xffffff00 }));
      } else if (kind === 'restart') {
        await bench.session.close();
        delivered += bench.chardev.received.length;
        read.push(bench.chardev.received);
        const state = bench.session.state();
        bench.session.detachRing({ drain: false });
        const next = new SessionBench({ spool: options });
        next.attach(bench.guest, state);
        bench = next;
      }
      await turn();
      while (bench.deferred.length > 0) bench.pass(0);
      const figures = bench.session.figures();
      const inRing = OUT_BYTES - bench.guest.outSpace;
      expect(figures.fromGuestBytes).toBe(produced - inRing);
      expect(delivered + bench.chardev.received.length + figures.spoolBytes + figures.droppedBytes).toBe(
        produced - inRing,
      );
      expect(figures.deliveredBytes).toBe(delivered + bench.chardev.received.length);
      // The guest is held up for a connected client only, and for no longer than it was promised.
      if (inRing > 0) expect([bench.chardev.connected, figures.spoolBytes]).toEqual([true, options.limitBytes]);
      expect(bench.clock.pending).toBe(inRing > 0 ? 1 : 0);
      expect(figures.stalledMs).toBeLessThanOrEqual(PATIENCE_MS * (1 + returned + delivered / PATIENCE_BYTES));
      expect(figures.toGuestBytes + figures.inputBytes + bench.chardev.outbox).toBe(accepted);
    }
    const { droppedBytes } = bench.session.figures();
    const output = Buffer.concat([...read, bench.chardev.received]);
    if (droppedBytes === 0) expect(Buffer.concat(spoken).subarray(0, output.length).equals(output)).toBe(true);
    if (lostInOldRing > 0) return;
    // Everything the clients sent arrives, in order, apart from the answers that were asked for.
    for (let quiet = 0; quiet < 3; ) {
      const more = bench.listen();
      heard = Buffer.concat([heard, more]);
      quiet = more.length === 0 ? quiet + 1 : 0;
      await turn();
    }
    const text = heard.toString('latin1').replaceAll(`XCID ${NONCE}\n`, '');
    expect(text).toBe(Buffer.concat(sent).toString('latin1'));
  }

  /** With no room in the spool either, one byte is still in the ring when the next process comes. */
  const BYTE_IN_THE_RING = [
    { kind: 'connect' as const, bytes: 0 },
    { kind: 'speak' as const, bytes: 1502 },
    { kind: 'restart' as const, bytes: 0 },
  ];

  it('is balanced after any schedule of guest and clients', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.record({
          limitBytes: fc.oneof(fc.integer({ min: 1, max: 6000 }), fc.constant(1_000_000)),
          policy: fc.constantFrom<OverflowPolicy>('drop-oldest', 'drop-newest'),
        }),
        run,
      ),
      { numRuns: 150, examples: [[BYTE_IN_THE_RING, { limitBytes: 1, policy: 'drop-oldest' }]] },
    );
  });
});
