import { describe, expect, it } from 'vitest';
import { BellCost, LEAST_LOOKS, MOST_LOOKS } from '../../src/backend/bell-cost.js';

/** One that was told of `times` bells and waits of a thousand looks, of so many microseconds each. */
function told(bellUs: number, lookUs: number, times = 200): BellCost {
  let nowMs = 0;
  const cost = new BellCost(() => nowMs);
  for (let i = 0; i < times; i++) {
    const bell = cost.bells.start();
    nowMs += bellUs / 1000;
    if (bell !== undefined) cost.bells.end(bell);
    const looks = cost.looks.start();
    nowMs += lookUs;
    if (looks !== undefined) cost.looks.end(looks, 1000);
  }
  return cost;
}

describe('how many looks an event is worth', () => {
  it.each([
    ['nothing is known', () => new BellCost(), LEAST_LOOKS],
    ['bells cost nothing: a guest in the same process', () => told(0, 0.01), LEAST_LOOKS],
    ['the clock is too coarse', () => told(0, 0), LEAST_LOOKS],
    ['hardware', () => told(1.5, 0.013), 923],
    ['emulation', () => told(110, 0.127), 6929],
    ['a bell that takes for ever', () => told(1e6, 0.01), MOST_LOOKS],
  ])('when %s', (_, cost, looks) => {
    expect(cost().worthLooks).toBe(looks);
  });

  it('follows the least of the last measurements: a bell during which somebody else ran is no dearer', () => {
    const cost = told(2, 0.01);
    const before = cost.worthLooks;
    let late = false;
    let nowMs = 0;
    const slow = new BellCost(() => nowMs);
    for (let i = 0; i < 2000; i++) {
      const bell = slow.bells.start();
      nowMs += late ? 5 : 0.002;
      late = i % 3 === 0;
      if (bell !== undefined) slow.bells.end(bell);
      const looks = slow.looks.start();
      nowMs += 0.01;
      if (looks !== undefined) slow.looks.end(looks, 1000);
    }
    expect(slow.worthLooks).toBe(before);
  });

  it('asks the clock now and then only', () => {
    let asked = 0;
    const cost = new BellCost(() => asked++);
    for (let i = 0; i < 6400; i++) {
      const start = cost.bells.start();
      if (start !== undefined) cost.bells.end(start);
    }
    expect(asked).toBe(200);
  });
});
