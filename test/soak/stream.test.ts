/** The soak's own measure: what it says of holes and repeats must be right, or the soak says nothing. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PositionalStream, StreamChecker } from './stream.js';

const LENGTH = 50_000;
const stream = new PositionalStream(42);
const whole = stream.bytes(0, LENGTH);

function check(pieces: readonly Uint8Array[]): StreamChecker {
  const checker = new StreamChecker('test', stream, () => LENGTH);
  for (const piece of pieces) checker.push(piece);
  return checker;
}

const range = (from: number, to: number) => whole.subarray(from, to);

describe('a positional stream', () => {
  it('has the same byte at an offset however it is cut', () => {
    fc.assert(
      fc.property(fc.nat(LENGTH - 1), fc.nat(500), (from, length) => {
        const to = Math.min(LENGTH, from + length);
        return stream.bytes(from, to - from).equals(range(from, to));
      }),
    );
  });

  it('has other bytes under another key', () => {
    expect(new PositionalStream(43).bytes(0, 64).equals(range(0, 64))).toBe(false);
  });
});

describe('its checker', () => {
  it('finds every hole of any size between runs of any size, in any pieces', () => {
    const run = fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 20, max: 300 }));
    const steps = fc.array(fc.record({ run, hole: fc.nat(900) }), { maxLength: 15 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 700 }), (list, piece) => {
        const kept: Buffer[] = [];
        let at = 0;
        let missing = 0;
        for (const { run, hole } of list) {
          kept.push(range(at, at + run));
          at += run + hole;
          missing += hole;
        }
        kept.push(range(at, at + 100));
        const bytes = Buffer.concat(kept);
        const pieces: Buffer[] = [];
        for (let from = 0; from < bytes.length; from += piece) pieces.push(bytes.subarray(from, from + piece));
        const checker = check(pieces);
        expect([checker.missing, checker.repeated, checker.unplaced]).toEqual([missing, 0, 0]);
        expect(checker.end).toBe(at + 100);
      }),
    );
  });

  it('counts a repeat and goes on behind it', () => {
    const { repeated, missing, end } = check([range(0, 5000), range(3000, 9000)]);
    expect([repeated, missing, end]).toEqual([2000, 0, 9000]);
  });

  it('throws on bytes of another stream', () => {
    const alien = new PositionalStream(7).bytes(0, 5000);
    expect(() => check([range(0, 100), alien])).toThrow('after offset 100 came bytes that belong nowhere');
  });

  it('throws on a changed byte', () => {
    const changed = Buffer.from(range(0, 9000));
    changed[4000] = (changed[4000] ?? 0) ^ 1;
    expect(() => check([changed])).toThrow('belong nowhere');
  });

  it('throws when two pieces changed places', () => {
    expect(() => check([range(0, 100), range(200, 208), range(100, 108), range(208, 9000)])).toThrow('belong nowhere');
  });
});
