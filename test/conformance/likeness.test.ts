/**
 * Our daemon in its other likenesses: like oxenstored it answers as oxenstored did when the scripts were recorded; and
 * where the C daemon of Xen 4.17 and oxenstored agree, everybody relies on it, so that it holds in every likeness.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseDifferences } from './differences.js';
import { OurDaemon } from './peers/ours.js';
import { describeDifference, runCase } from './run-case.js';
import type { Case } from './script.js';
import { loadScripts, RECORDED_FROM } from './suites/scripts.js';

const FOLDER = fileURLToPath(new URL('scripts', import.meta.url));
const OXENSTORED = 'oxenstored-4.17';
const OURS = loadScripts(FOLDER, OXENSTORED);
const EXPLAINED = parseDifferences(readFileSync(new URL('differences.txt', import.meta.url), 'utf8'));

/** What Xen 4.22 changed although both daemons of 4.17 agreed on it. */
const CHANGED_IN_422 = new Map([
  ['unknown operations of a guest', 'GET_FEATURE and SET_FEATURE are known'],
  ['a guest hears nothing of others unless allowed', '@releaseDomain may be watched by every domain'],
]);

async function differenceOf(like: 'oxenstored' | 'xenstored', test: Case): Promise<string | undefined> {
  const peer = await OurDaemon.start(like, 'rings');
  try {
    return describeDifference(test, await runCase(peer, test));
  } finally {
    await peer.close();
  }
}

describe.each(OURS.map((script) => [script.name, script] as const))('like oxenstored, %s', (name, script) => {
  it.each(script.cases.map((test) => [test.title, test] as const))('%s', async (title, test) => {
    const difference = await differenceOf('oxenstored', test);
    const explained = EXPLAINED.some((e) => e.like === OXENSTORED && e.file === name && e.title === title);
    if (explained) expect(difference, 'differences.txt lists what is equal').toBeDefined();
    else expect(difference).toBeUndefined();
  });
});

function expectations(test: Case): string {
  return JSON.stringify(test.steps.map(({ expected }) => [...expected]));
}

const AGREED = loadScripts(FOLDER, RECORDED_FROM).flatMap((script, at) =>
  script.cases
    .filter((test, index) => {
      const other = OURS[at]?.cases[index];
      return other !== undefined && expectations(test) === expectations(other);
    })
    .map((test) => [`${script.name}: ${test.title}`, test] as const),
);

describe('where both genuine daemons agree', () => {
  it('is a good part of all cases', () => {
    expect(AGREED.length).toBeGreaterThan(100);
  });

  it.each(AGREED)('so does the one of Xen 4.22: %s', async (_name, test) => {
    const difference = await differenceOf('xenstored', test);
    if (CHANGED_IN_422.has(test.title)) expect(difference, 'Xen 4.22 did change it').toBeDefined();
    else expect(difference).toBeUndefined();
  });
});
