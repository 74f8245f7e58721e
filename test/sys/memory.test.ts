import fc from 'fast-check';
import { expect, test } from 'vitest';
import { loadKoffi } from '../../src/sys/libc.js';
import { alignedBytes } from '../../src/sys/memory.js';

test('large memory begins with a cache line, wherever malloc puts it', () => {
  const held: unknown[] = [];
  fc.assert(
    fc.property(
      fc.integer({ min: 4096, max: 300_000 }),
      fc.integer({ min: 0, max: 200_000 }),
      (lengthBytes, before) => {
        held.push(Buffer.allocUnsafeSlow(before));
        const bytes = alignedBytes(lengthBytes);
        held.push(bytes);
        expect(bytes.length).toBe(lengthBytes);
        expect(BigInt(loadKoffi().address(bytes)) % 64n).toBe(0n);
      },
    ),
  );
});
