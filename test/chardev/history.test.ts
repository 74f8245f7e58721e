import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChannelError } from '../../src/base/errors.js';
import { DEFAULT_FIRST_BYTES, DEFAULT_RECENT_BYTES, History } from '../../src/chardev/history.js';

/** What one byte at an offset must be: known without keeping anything. */
const byteAt = (offset: number) => (offset * 31 + (offset >> 8)) & 0xff;
const output = (from: number, to: number) => Buffer.from(Array.from({ length: to - from }, (_, i) => byteAt(from + i)));

/** Everything that can be read from an offset on, until the end or a gap. */
function readOn(history: History, from: number, step: number): Buffer {
  const pieces: Buffer[] = [];
  for (let offset = from; ; ) {
    try {
      const piece = history.read(offset, step);
      if (piece.bytes.length === 0) break;
      expect(piece.offset).toBe(offset);
      offset = piece.nextOffset;
      pieces.push(piece.bytes);
    } catch (error) {
      expect(error).toBeInstanceOf(ChannelError);
      break;
    }
  }
  return Buffer.concat(pieces);
}

describe('History', () => {
  it('keeps exactly the first and the most recent bytes, however they came', () => {
    const sizes = fc.array(fc.oneof(fc.nat(20), fc.nat(200)), { maxLength: 40 });
    fc.assert(
      fc.property(
        sizes,
        fc.nat(60),
        fc.integer({ min: 1, max: 90 }),
        fc.nat(1000),
        fc.integer({ min: 1, max: 64 }),
        (chunks, firstBytes, recentBytes, startOffset, step) => {
          const history = new History({ firstBytes, recentBytes, startOffset });
          let total = startOffset;
          for (const size of chunks) {
            history.append(output(total, total + size));
            total += size;
            expect(history.total).toBe(total);
            const firstEnd = Math.min(total, startOffset + firstBytes);
            const recentStart = Math.max(firstEnd, total - recentBytes);
            expect(history.kept).toEqual({ start: startOffset, firstEnd, recentStart, total });
            const gap = recentStart > firstEnd;
            expect(readOn(history, startOffset, step)).toEqual(output(startOffset, gap ? firstEnd : total));
            expect(readOn(history, recentStart, step)).toEqual(output(recentStart, total));
          }
          for (let offset = startOffset - 3; offset <= total + 3; offset++) {
            const { firstEnd, recentStart } = history.kept;
            const isKept = (offset >= startOffset && offset < firstEnd) || (offset >= recentStart && offset <= total);
            if (isKept) {
              const { bytes, nextOffset } = history.read(offset, 7);
              expect(bytes).toEqual(output(offset, nextOffset));
              expect(bytes.length > 0 || offset === total).toBe(true);
            } else {
              expect(() => history.read(offset, 7)).toThrow(expect.objectContaining({ code: 'range-gone' }));
            }
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it('says which offsets are kept when one is gone', () => {
    const history = new History({ firstBytes: 10, recentBytes: 20 });
    history.append(output(0, 100));
    try {
      history.read(50, 1);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({
        code: 'range-gone',
        message: 'offset 50 is not kept any more: offsets 0 to 10 and 80 to 100 are',
        details: { requested: 50, start: 0, first: 10, last: 80, total: 100 },
      });
    }
  });

  it.each([[101], [-1], [0.5], [Number.NaN], [Number.POSITIVE_INFINITY], [2 ** 60]])('has no offset %d', (offset) => {
    const history = new History();
    history.append(output(0, 100));
    expect(() => history.read(offset, 1)).toThrow(expect.objectContaining({ code: 'range-gone' }));
  });

  it('knows where the last so many bytes begin', () => {
    const history = new History({ firstBytes: 10, recentBytes: 20 });
    history.append(output(0, 25));
    expect(history.recentOffset(1000)).toBe(0);
    expect(history.recentOffset(20)).toBe(5);
    history.append(output(25, 100));
    expect(history.recentOffset(1000)).toBe(80);
    expect(history.recentOffset(5)).toBe(95);
  });

  it('gives copies, that later output does not change', () => {
    const history = new History({ firstBytes: 0, recentBytes: 4 });
    history.append(Buffer.from('abcd'));
    const { bytes } = history.read(0, 4);
    history.append(Buffer.from('efgh'));
    expect(bytes.toString()).toBe('abcd');
  });

  it('costs little while little is said, and never more than its two limits', () => {
    const history = new History();
    expect(history.storageBytes).toBe(0);
    history.append(Buffer.from('login: '));
    expect(history.storageBytes).toBe(256);
    const chunk = randomBytes(60_000);
    for (let i = 0; i < 100; i++) history.append(chunk);
    expect(history.storageBytes).toBe(DEFAULT_FIRST_BYTES + DEFAULT_RECENT_BYTES);
  });

  it('takes a piece larger than all it can keep', () => {
    const history = new History({ firstBytes: 3, recentBytes: 5 });
    history.append(output(0, 50));
    expect(history.read(45, 100).bytes).toEqual(output(45, 50));
    expect(history.read(0, 100).bytes).toEqual(output(0, 3));
  });
});
