/** Every attack of the list against the real daemon; `scripts/soak --hostile` prints what each met. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { ATTACKS } from './attacks.js';
import { formatReports, runHostile } from './hostile.js';

it('a hostile guest costs the daemon little and another domain nothing, whatever it tries', async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'xc-hostile-'));
  onTestFinished(() => rmSync(scratch, { recursive: true, force: true }));
  const result = await runHostile(join(scratch, 'h'), 1);
  expect(result.complaints, formatReports(result)).toEqual([]);
  expect(result.reports.filter(({ complaints }) => complaints.length > 0)).toEqual([]);
  expect(result.reports).toHaveLength(ATTACKS.length);
}, 120_000);
