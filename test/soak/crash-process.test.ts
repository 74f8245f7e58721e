/** A few kills of a real process; `scripts/soak --kills 100` does more of them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { buildCommand, killAgainAndAgain } from './crash-process.js';

const KILLS = 8;

it(`a daemon that gets SIGKILL ${KILLS} times during transfers loses and repeats no more than it states`, async () => {
  const root = mkdtempSync(join(tmpdir(), 'xc-kill-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  const main = buildCommand(fileURLToPath(new URL('../..', import.meta.url)));
  const { complaints, up, down } = await killAgainAndAgain({ root, seed: 1, kills: KILLS, main, print: () => {} });
  expect(complaints).toEqual([]);
  expect(up.received).toBeGreaterThan(KILLS * 10_000);
  expect(down.received).toBeGreaterThan(KILLS * 10_000);
}, 120_000);
