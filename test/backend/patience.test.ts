import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PATIENCE_BYTES, PATIENCE_MS } from '../../src/backend/patience.js';
import { OUT_BYTES } from '../../src/console/ring.js';
import { SessionBench } from '../support/session-bench.js';

const LIMIT = 10_000;

/** A guest that always has more to say, and says it as soon as there is room in its ring. */
class TalkativeBench extends SessionBench {
  produced = 0;

  constructor(limitBytes = LIMIT) {
    super({ spool: { limitBytes } });
    this.chardev.room = 0;
    this.attach();
    this.onNotify = () => this.refill();
  }

  refill(): void {
    const at = this.produced % PERIOD;
    this.produced += this.guest.produce(SPEECH.subarray(at, at + OUT_BYTES));
  }

  /** Lets it talk until it is held up, or `turns` times. */
  talk(turns = 1): void {
    this.refill();
    this.session.onEvent();
    for (let i = 1; i < turns; i++) this.pass(0);
  }

  get isHeldUp(): boolean {
    return this.guest.outSpace === 0;
  }
}

/** What is said begins anew after so many bytes; made once, since megabytes of it are compared. */
const PERIOD = 65536;
const SPEECH = Buffer.from(Uint8Array.from({ length: 2 * PERIOD }, (_, offset) => offset * 31 + (offset >> 8)));

function isGapless(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += PERIOD) {
    const piece = bytes.subarray(at, at + PERIOD);
    if (!piece.equals(SPEECH.subarray(0, piece.length))) return false;
  }
  return true;
}

describe('a guest whose spool is full', () => {
  it('is not held up while nobody is connected', () => {
    const bench = new TalkativeBench();
    bench.talk(3);
    expect(bench.session.figures()).toMatchObject({ stalls: 0, spoolBytes: LIMIT });
    expect(bench.session.figures().droppedBytes).toBeGreaterThan(LIMIT);
    expect(bench.clock.pending).toBe(0);
  });

  it('is held up for a client that is slow, and goes on as soon as that one takes bytes', () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    expect(bench.isHeldUp).toBe(true);
    expect(bench.session.figures()).toMatchObject({ stalls: 1, spoolBytes: LIMIT, droppedBytes: 0 });
    bench.pass(PATIENCE_MS - 1);
    bench.chardev.makeRoom(50_000);
    bench.pass(0);
    expect(bench.chardev.received.length).toBe(50_000);
    expect(isGapless(bench.chardev.received)).toBe(true);
    expect(bench.session.figures()).toMatchObject({ stalledMs: PATIENCE_MS - 1, droppedBytes: 0 });
  });

  it('loses nothing for a client that takes 64 KiB in time, however fast it talks', () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    for (let i = 0; i < 100; i++) {
      bench.pass(PATIENCE_MS - 1);
      bench.chardev.makeRoom(PATIENCE_BYTES);
      bench.pass(0);
    }
    expect(bench.chardev.received.length).toBe(100 * PATIENCE_BYTES);
    expect(isGapless(bench.chardev.received)).toBe(true);
    expect(bench.session.figures().droppedBytes).toBe(0);
  });

  it('is held up once by a client that is stuck, for PATIENCE_MS', () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    bench.pass(PATIENCE_MS);
    expect(bench.session.figures().droppedBytes).toBeGreaterThan(0);
    for (let i = 0; i < 50; i++) bench.pass(10);
    expect(bench.session.figures()).toMatchObject({ stalls: 1, stalledMs: PATIENCE_MS });
    expect(bench.clock.pending).toBe(0);
  });

  it('is held up again when the stuck client has come back and read 64 KiB', () => {
    const bench = new TalkativeBench(PATIENCE_BYTES);
    bench.chardev.connect();
    bench.talk();
    for (let i = 0; i < 50 && !bench.isHeldUp; i++) bench.pass(0);
    bench.pass(PATIENCE_MS);
    bench.chardev.makeRoom(PATIENCE_BYTES - 1);
    for (let i = 0; i < 50; i++) bench.pass(1);
    expect(bench.session.figures().stalls).toBe(1);
    bench.chardev.makeRoom(1);
    for (let i = 0; i < 50; i++) bench.pass(0);
    expect(bench.session.figures().stalls).toBe(2);
    expect(bench.isHeldUp).toBe(true);
  });

  it('goes on at once when the client goes', () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    bench.pass(5);
    const before = bench.produced;
    bench.chardev.disconnect();
    expect(bench.produced).toBeGreaterThan(before);
    expect(bench.session.figures()).toMatchObject({ stalls: 1, stalledMs: 5 });
    expect(bench.clock.pending).toBe(0);
  });

  it('gets nothing out of a client that comes and goes: only reading earns patience', () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    bench.pass(PATIENCE_MS);
    for (let i = 0; i < 20; i++) {
      bench.chardev.disconnect();
      bench.chardev.connect();
      bench.pass(PATIENCE_MS);
    }
    expect(bench.session.figures()).toMatchObject({ stalls: 1, stalledMs: PATIENCE_MS });
  });

  it('is not blamed for our own lateness: a client that made room meanwhile is heard before bytes are dropped', () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    bench.clock.advance(10 * PATIENCE_MS);
    expect(bench.session.figures().droppedBytes).toBe(0);
    bench.chardev.makeRoom(PATIENCE_BYTES);
    bench.pass(0);
    expect(bench.session.figures().droppedBytes).toBe(0);
    expect(isGapless(bench.chardev.received)).toBe(true);
    expect(bench.chardev.received.length).toBe(PATIENCE_BYTES);
  });

  it('still gets the bytes of its client', () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    bench.chardev.send(Buffer.from('to the guest'));
    expect(bench.isHeldUp).toBe(true);
    expect(bench.guest.consume().toString()).toBe('to the guest');
  });

  it('may ring while it is held up: that is neither idleness nor a reason to wait longer', () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    const { unmasks } = bench;
    for (let i = 0; i < 1000; i++) bench.session.onEvent();
    expect(bench.unmasks).toBe(unmasks);
    expect(bench.slowed.length).toBe(0);
    bench.pass(PATIENCE_MS);
    bench.onNotify = () => {};
    for (let i = 0; i < 5; i++) bench.pass(0);
    expect(bench.unmasks).toBe(unmasks + 1);
  });

  it('has its last words taken when the ring goes away, and no timer is left', () => {
    const bench = new TalkativeBench();
    bench.onNotify = () => {};
    bench.chardev.connect();
    while (!bench.isHeldUp) bench.talk();
    bench.session.detachRing({ drain: true });
    const { fromGuestBytes, spoolBytes, droppedBytes } = bench.session.figures();
    expect(fromGuestBytes).toBe(bench.produced);
    expect(spoolBytes + droppedBytes).toBe(bench.produced);
    expect(bench.clock.pending).toBe(0);
  });

  it('leaves no timer behind when the channel is closed', async () => {
    const bench = new TalkativeBench();
    bench.chardev.connect();
    bench.talk();
    expect(bench.clock.pending).toBe(1);
    await bench.session.close();
    expect(bench.clock.pending).toBe(0);
    expect(bench.session.state().output.length).toBe(LIMIT);
  });
});

describe('any client', () => {
  const step = fc.record({ ms: fc.nat(PATIENCE_MS + 5), room: fc.oneof(fc.nat(5000), fc.nat(3 * PATIENCE_BYTES)) });

  // Gigabytes go through the ring in it.
  it('costs the guest at most PATIENCE_MS for each 64 KiB that it takes, and never stops it for good', {
    timeout: 90_000,
  }, () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 200_000 }), (steps, limitBytes) => {
        const bench = new TalkativeBench(limitBytes);
        bench.chardev.connect();
        bench.talk();
        let beforeDrops = 0;
        for (const { ms, room } of steps) {
          for (let passed = 0; passed < ms; passed++) bench.pass(1);
          bench.chardev.makeRoom(room);
          bench.pass(0);
          const { stalledMs, deliveredBytes, droppedBytes, fromGuestBytes, spoolBytes } = bench.session.figures();
          expect(stalledMs).toBeLessThanOrEqual(PATIENCE_MS * (1 + deliveredBytes / PATIENCE_BYTES));
          expect(deliveredBytes + spoolBytes + droppedBytes).toBe(fromGuestBytes);
          if (droppedBytes === 0) beforeDrops = deliveredBytes;
        }
        expect(isGapless(bench.chardev.received.subarray(0, beforeDrops))).toBe(true);
        const before = bench.session.figures().fromGuestBytes;
        bench.pass(PATIENCE_MS);
        bench.pass(0);
        expect(bench.session.figures().fromGuestBytes).toBeGreaterThan(before);
      }),
      { numRuns: 25 },
    );
  });
});
