import { describe, expect, it } from 'vitest';
import { Hover } from '../../src/backend/hover.js';
import { OUT_BYTES } from '../../src/console/ring.js';

/** A ring that holds `bytes` more at each look after the first `after` ones. */
class GrowingRing {
  looks = 0;
  readonly #after: number;
  readonly #bytes: number;

  constructor(after: number, bytes: number) {
    this.#after = after;
    this.#bytes = bytes;
  }

  outPending(): number {
    this.looks++;
    return Math.max(0, this.looks - this.#after) * this.#bytes;
  }
}

const silent = () => new GrowingRing(Number.POSITIVE_INFINITY, 0);

describe('waiting for a guest that is writing', () => {
  it('ends as soon as half of the ring is full', () => {
    const ring = new GrowingRing(10, OUT_BYTES / 4);
    expect(new Hover().wait(ring)).toBe(true);
    expect(ring.looks).toBe(12);
  });

  it('takes less when no more comes', () => {
    const ring = new GrowingRing(150, 1);
    expect(new Hover().wait(ring)).toBe(true);
  });

  it('is bounded when nothing comes', () => {
    const ring = silent();
    expect(new Hover().wait(ring)).toBe(false);
    expect(ring.looks).toBeLessThanOrEqual(1000);
  });

  it('is hardly tried any more where it never pays, and is again when it has paid', () => {
    const hover = new Hover();
    const looksOf = (times: number): number => {
      const ring = silent();
      for (let i = 0; i < times; i++) hover.wait(ring);
      return ring.looks;
    };
    const first = looksOf(4);
    expect(looksOf(64)).toBe(first / 4);
    while (!hover.wait(new GrowingRing(0, OUT_BYTES)));
    expect(looksOf(4)).toBe(first);
  });
});
