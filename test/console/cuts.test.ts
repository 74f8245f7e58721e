import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Cuts } from '../../src/console/cuts.js';

const RING = 16;
const sources = [
  Uint8Array.from({ length: 80 }, (_, i) => i),
  Uint8Array.from({ length: 33 }, (_, i) => 255 - i),
  Uint8Array.from({ length: RING }, (_, i) => 7 * i),
];
const asked = fc
  .record({ source: fc.constantFrom(...sources), from: fc.nat(100), length: fc.nat(RING), fills: fc.boolean() })
  .filter(({ source, from, length }) => from + length <= source.length);

describe('parts of a buffer', () => {
  it('are what subarray gives, whatever was asked for before', () => {
    fc.assert(
      fc.property(fc.array(asked, { maxLength: 60 }), (all) => {
        const cuts = new Cuts(RING);
        for (const { source, from, length, fills } of all) {
          const part = cuts.cut(source, from, length, fills);
          expect([part.buffer, part.byteOffset, part.length]).toEqual([source.buffer, from, length]);
        }
      }),
    );
  });

  it('are the same views when a full ring takes the same series again, and show what the buffer holds then', () => {
    const source = new Uint8Array(4 * RING);
    const cuts = new Cuts(RING);
    const series = () => [3, 19, 35].map((from) => cuts.cut(source, from, RING - 3, true));
    const first = series();
    source.fill(9);
    const second = series();
    expect(second.every((part, i) => part === first[i])).toBe(true);
    expect([...(second[1] ?? [])]).toEqual(Array.from({ length: RING - 3 }, () => 9));
  });
});
