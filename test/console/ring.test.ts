import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { indexDistance } from '../../src/console/indices.js';
import { BackendRing, IN_BYTES, OFFSET, OUT_BYTES, WORD } from '../../src/console/ring.js';
import { GuestRing } from '../support/guest-ring.js';

const pattern = (length: number, seed = 0): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * 7 + seed) & 255));

/** Drains in pieces of at most `pieceBytes`, publishing each. */
function drain(ring: BackendRing, pieceBytes: number): Buffer {
  const chunks: Buffer[] = [];
  const piece = Buffer.alloc(pieceBytes);
  for (;;) {
    const count = ring.peekOut(piece, 0);
    if (count === 0) return Buffer.concat(chunks);
    chunks.push(Buffer.from(piece.subarray(0, count)));
    ring.publishConsumed(count);
  }
}

/** Any start, with the interesting ones near the end of 32 bits. */
const startIndex = fc.oneof(fc.nat(0xffffffff), fc.integer({ min: 0xffffffff - 5000, max: 0xffffffff }));

describe('BackendRing', () => {
  it('lies in the page where the header says', () => {
    expect([WORD.inCons, WORD.inProd, WORD.outCons, WORD.outProd].map((word) => word * 4)).toEqual([
      OFFSET.inCons,
      OFFSET.inProd,
      OFFSET.outCons,
      OFFSET.outProd,
    ]);
  });

  it.each<[number, number, number]>([
    [5, 3, 2],
    [3, 0xffffffff, 4],
    [0, 0xfffff800, 2048],
    [0, 1, 0xffffffff],
  ])('measures %i minus %i as %i', (producer, consumer, distance) => {
    expect(indexDistance(producer, consumer)).toBe(distance);
  });

  it('carries any bytes to the host in any pieces, also over 2^32', () => {
    fc.assert(
      fc.property(
        startIndex,
        fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 12 }),
        fc.integer({ min: 1, max: 2048 }),
        (start, lengths, pieceBytes) => {
          const guest = new GuestRing({ out: start, in: 0 });
          const ring = new BackendRing(guest);
          const sent: Buffer[] = [];
          const received: Buffer[] = [];
          lengths.forEach((length, seed) => {
            const bytes = pattern(length, seed);
            for (let at = 0; at < length; ) {
              at += guest.produce(bytes.subarray(at));
              received.push(drain(ring, pieceBytes));
            }
            sent.push(bytes);
          });
          expect(Buffer.concat(received).equals(Buffer.concat(sent))).toBe(true);
          expect(guest.get('outCons')).toBe(guest.get('outProd'));
          expect(ring.illegalIndices).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('carries any bytes to the guest in any pieces, also over 2^32', () => {
    fc.assert(
      fc.property(
        startIndex,
        fc.array(fc.tuple(fc.integer({ min: 1, max: 1500 }), fc.integer({ min: 1, max: 1024 })), { maxLength: 12 }),
        (start, steps) => {
          const guest = new GuestRing({ out: 0, in: start });
          const ring = new BackendRing(guest);
          const sent: Buffer[] = [];
          const received: Buffer[] = [];
          steps.forEach(([length, reading], seed) => {
            const bytes = pattern(length, seed);
            for (let at = 0; at < length; ) {
              at += ring.writeIn(bytes, at);
              received.push(guest.consume(reading));
            }
            sent.push(bytes);
          });
          received.push(guest.consume());
          expect(Buffer.concat(received).equals(Buffer.concat(sent))).toBe(true);
          expect(ring.inConsumed()).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('gives the guest no space back before the bytes are published', () => {
    const guest = new GuestRing();
    const ring = new BackendRing(guest);
    guest.produce(pattern(OUT_BYTES));
    expect(ring.peekOut(Buffer.alloc(OUT_BYTES), 0)).toBe(OUT_BYTES);
    expect(guest.outSpace).toBe(0);
    expect(new BackendRing(guest).peekOut(Buffer.alloc(OUT_BYTES), 0)).toBe(OUT_BYTES);
    ring.publishConsumed(OUT_BYTES);
    expect(guest.outSpace).toBe(OUT_BYTES);
  });

  it('goes on where the backend before it stopped', () => {
    const guest = new GuestRing();
    const first = new BackendRing(guest);
    guest.produce(pattern(1000));
    const piece = Buffer.alloc(600);
    first.publishConsumed(first.peekOut(piece, 0));
    const second = new BackendRing(guest);
    expect(second.isAt({ outConsumed: 600, inProduced: 0 })).toBe(true);
    expect(drain(second, 2048)).toEqual(pattern(1000).subarray(600));
  });

  it('takes nothing and writes nothing while the guest publishes impossible indices, and goes on afterwards', () => {
    fc.assert(
      fc.property(
        startIndex,
        fc.integer({ min: OUT_BYTES + 1, max: 0xffffffff }),
        fc.integer({ min: IN_BYTES + 1, max: 0xffffffff }),
        (start, outDistance, inDistance) => {
          const guest = new GuestRing({ out: start, in: start });
          const ring = new BackendRing(guest);
          guest.set('outProd', start + outDistance);
          guest.set('inCons', start - inDistance);
          const target = Buffer.alloc(OUT_BYTES, 0xee);
          expect(ring.peekOut(target, 0)).toBe(0);
          expect(ring.writeIn(pattern(10))).toBe(0);
          expect(ring.inConsumed()).toBe(false);
          expect(target.every((byte) => byte === 0xee)).toBe(true);
          expect(ring.illegalIndices).toBe(2);
          guest.set('outProd', start);
          guest.set('inCons', start);
          guest.produce(pattern(5));
          expect(drain(ring, 100)).toEqual(pattern(5));
          expect(ring.writeIn(pattern(10))).toBe(10);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('believes its own copies when the guest overwrites the indices that are ours', () => {
    const guest = new GuestRing();
    const ring = new BackendRing(guest);
    guest.produce(pattern(100));
    guest.set('outCons', 50);
    guest.set('inProd', 12345);
    expect(drain(ring, 2048)).toEqual(pattern(100));
    expect(guest.get('outCons')).toBe(100);
    ring.writeIn(pattern(10));
    expect(guest.get('inProd')).toBe(10);
  });

  it('never touches a byte outside its own areas', () => {
    const guest = new GuestRing({ out: 2000, in: 1000 });
    guest.bytes.fill(0x5a, OFFSET.connection + 4);
    const ring = new BackendRing(guest);
    ring.writeIn(pattern(IN_BYTES));
    expect(guest.bytes.subarray(OFFSET.out, OFFSET.inCons).every((byte) => byte === 0)).toBe(true);
    expect(guest.bytes.subarray(OFFSET.connection + 4).every((byte) => byte === 0x5a)).toBe(true);
  });

  it('clears the connection byte when it takes over a page that says disconnected', () => {
    const guest = new GuestRing();
    guest.bytes[OFFSET.connection] = 1;
    new BackendRing(guest).announce();
    expect(guest.bytes[OFFSET.connection]).toBe(0);
  });
});
