/** A short soak; scripts/soak runs longer ones. A failure prints the seed that repeats its decisions. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { soak } from './soak.js';

/** Spools are in files where the run directory is in memory, and in the daemon's own memory elsewhere. */
const CASES = [
  { what: 'lines in memory', seed: 20_240_117, seconds: 8, channels: 8, crashes: 8, ptys: false, files: false },
  { what: 'spools in files', seed: 22, seconds: 6, channels: 6, crashes: 8, ptys: false, files: true },
  { what: 'PTYs and the guest agent', seed: 4711, seconds: 6, channels: 4, crashes: 3, ptys: true, files: false },
] as const;

it.each(CASES)(
  'every byte is accounted for through restarts, crashes, unplugs and deaths, with $what',
  async (options) => {
    const scratch = mkdtempSync(join(options.files ? '/dev/shm' : tmpdir(), 'xc-soak-'));
    onTestFinished(() => rmSync(scratch, { recursive: true, force: true }));
    const { complaints, counts, accounts } = await soak({ ...options, root: join(scratch, 'h'), print: () => {} });
    expect(complaints, `seed ${options.seed}`).toEqual([]);
    expect(counts['crashes']).toBe(options.crashes);
    if (options.files) expect(accounts.every(({ spoolSurvives }) => spoolSurvives)).toBe(true);
    const received = (direction: 'up' | 'down') =>
      accounts.reduce((sum, account) => sum + account[direction].received, 0);
    // A soak in which little moved proves little.
    expect(received('up')).toBeGreaterThan(100_000);
    expect(received('down')).toBeGreaterThan(100_000);
  },
  90_000,
);
