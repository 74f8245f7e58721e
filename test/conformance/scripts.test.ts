/**
 * Our daemon answers every request script as the genuine daemon did when the script was recorded. scripts/conformance
 * checks the recordings against the genuine daemons themselves.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseDifferences } from './differences.js';
import { OurDaemon, type Transport } from './peers/ours.js';
import { randomSplit } from './random.js';
import { describeDifference, type RunOptions, runCase } from './run-case.js';
import type { Case } from './script.js';
import { loadScripts, RECORDED_FROM } from './suites/scripts.js';

const SCRIPTS = loadScripts(fileURLToPath(new URL('scripts', import.meta.url)), RECORDED_FROM);
const EXPLAINED = parseDifferences(readFileSync(new URL('differences.txt', import.meta.url), 'utf8'));

async function differenceOf(test: Case, guests: Transport, options: RunOptions = {}): Promise<string | undefined> {
  const peer = await OurDaemon.start('xenstored-4.17', guests);
  try {
    return describeDifference(test, await runCase(peer, test, options));
  } finally {
    await peer.close();
  }
}

function isExplained(file: string, title: string): boolean {
  return EXPLAINED.some((e) => e.like === RECORDED_FROM && e.file === file && e.title === title);
}

describe.each(SCRIPTS.map((script) => [script.name, script] as const))('our daemon answers %s', (name, script) => {
  it.each(script.cases.map((test) => [test.title, test] as const))('like the genuine one: %s', async (title, test) => {
    const difference = await differenceOf(test, 'rings');
    if (isExplained(name, title)) expect(difference, 'differences.txt lists what is equal').toBeDefined();
    else expect(difference).toBeUndefined();
  });

  it.each(['rings', 'sockets'] as const)('whatever the pieces in which the bytes arrive over %s', async (guests) => {
    const split = randomSplit(script.cases.length);
    for (const test of script.cases) {
      if (isExplained(name, test.title) || (test.rings && guests === 'sockets')) continue;
      expect(await differenceOf(test, guests, { split }), test.title).toBeUndefined();
    }
  });
});
