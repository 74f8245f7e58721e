import { defineConfig } from 'vitest/config';

/** The suite on a genuine Xen: boots machines under emulation, so one file at a time and with patience. */
export default defineConfig({
  test: {
    include: ['test/real-xen/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 3_600_000,
    fileParallelism: false,
    pool: 'forks',
  },
});
