/** A short run of what scripts/conformance stress does for as long as it is told. */
import { describe, expect, it } from 'vitest';
import { runStress } from './suites/stress.js';

const LIMIT_MS = 4_000;

describe('fifty clients at random', () => {
  it.each(['xenstored-4.17', 'xenstored', 'oxenstored'] as const)(
    'find a daemon like %s as a simple model has it',
    async (like) => {
      const report = await runStress({ like, seed: 7, limitMs: LIMIT_MS });
      expect(report.difference).toBeUndefined();
      expect(report.deaths).toBeGreaterThan(10);
      expect(report.commits).toBeGreaterThan(10);
      expect(report.conflicts).toBeGreaterThan(0);
    },
  );
});
