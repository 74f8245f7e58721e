import { describe, expect, it } from 'vitest';
import { BellCost, LEAST_LOOKS } from '../../src/backend/bell-cost.js';
import { Hover } from '../../src/backend/hover.js';
import { IN_BYTES, OUT_BYTES } from '../../src/console/ring.js';

/** A ring that holds `bytes` more at each look after the first `after` ones. */
class GrowingRing {
  looks = 0;
  readonly #after: number;
  readonly #bytes: number;

  constructor(after: number, bytes: number) {
    this.#after = after;
    this.#bytes = bytes;
  }

  watchOut(): number {
    this.looks++;
    return Math.max(0, this.looks - this.#after) * this.#bytes;
  }
}

const silent = () => new GrowingRing(Number.POSITIVE_INFINITY, 0);

describe('waiting for a guest that is writing', () => {
  it('ends as soon as half of the ring is full', () => {
    const ring = new GrowingRing(10, OUT_BYTES / 4);
    expect(new Hover(new BellCost(() => 0)).waitForOutput(ring)).toBe(true);
    expect(ring.looks).toBe(12);
  });

  it('takes less when no more comes', () => {
    const ring = new GrowingRing(150, 1);
    expect(new Hover(new BellCost(() => 0)).waitForOutput(ring)).toBe(true);
  });

  it('is bounded when nothing comes', () => {
    const ring = silent();
    expect(new Hover(new BellCost(() => 0)).waitForOutput(ring)).toBe(false);
    expect(ring.looks).toBeLessThanOrEqual(1000);
  });

  it('goes on while the guest reads, until half of the ring is free', () => {
    let looks = 0;
    const lookAt = (pending: () => number) => {
      const look = (): number => {
        looks++;
        return pending();
      };
      return { inPending: look, watchIn: look };
    };
    // 16 bytes at a time, as Linux takes them.
    const reading = (): number => Math.max(0, IN_BYTES - 16 * Math.floor(looks / 3));
    new Hover(new BellCost(() => 0)).waitForRoom(lookAt(reading));
    expect(reading()).toBe(IN_BYTES / 2);
    looks = 0;
    new Hover(new BellCost(() => 0)).waitForRoom(lookAt(() => IN_BYTES / 2 + 1));
    expect(looks).toBe(LEAST_LOOKS + 1);
  });

  it('is hardly tried any more where it never pays, and is again when it has paid', () => {
    const hover = new Hover(new BellCost(() => 0));
    const looksOf = (times: number): number => {
      const ring = silent();
      for (let i = 0; i < times; i++) hover.waitForOutput(ring);
      return ring.looks;
    };
    const first = looksOf(4);
    expect([64, 128, 256, 512, 1024, 1024].map(looksOf)).toEqual(Array.from({ length: 6 }, () => first / 4));
    while (!hover.waitForOutput(new GrowingRing(0, OUT_BYTES)));
    expect(looksOf(4)).toBe(first);
  });

  it('learns that looks have become cheap though it waits in vain, and waits longer at once', () => {
    let nowMs = 0;
    let lookUs = 3.3; // as long as the engine interprets
    const cost = new BellCost(() => nowMs);
    const bell = cost.bells.start() ?? 0;
    nowMs += 0.11;
    cost.bells.end(bell);
    const hover = new Hover(cost);
    let looks = 0;
    const ring = {
      watchOut: () => {
        looks++;
        nowMs += lookUs / 1000;
        return looks < 5000 ? 0 : OUT_BYTES;
      },
    };
    const attempt = (): boolean => {
      looks = 0;
      return hover.waitForOutput(ring);
    };
    for (let i = 0; i < 10; i++) expect(attempt()).toBe(false);
    expect(cost.worthLooks).toBe(267);
    lookUs = 0.13;
    let attempts = 1;
    while (!attempt()) attempts++;
    // One probe that measures, and the next time it pays.
    expect(attempts).toBeLessThanOrEqual(130);
    expect(cost.worthLooks).toBeGreaterThan(6000);
  });
});
