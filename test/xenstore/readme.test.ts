import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { startStore } from '../support/simulated-store.js';
import { temporaryDirectory } from '../support/temp-directory.js';

const README = readFileSync('xenstore/README.md', 'utf8');
const LIBRARY = resolve('xenstore/index.ts');

/** The code blocks, each under the heading it stands below. */
function examples(): [heading: string, code: string][] {
  const found: [string, string][] = [];
  let heading = '';
  for (const [, title, code] of README.matchAll(/^#+ ([^\n]*)$|^```ts\n(.*?)^```$/gms)) {
    if (title !== undefined) heading = title;
    else if (code !== undefined) found.push([heading, code]);
  }
  return found;
}

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

describe('the README of the xenstore library', () => {
  it('has its examples where this test finds them', () => {
    expect(examples().map(([heading]) => heading)).toEqual([
      'xenstore',
      'Watches',
      'Waiting',
      'Transactions',
      'A daemon for tests',
    ]);
  });

  it.each(examples())('tells the truth in the example of "%s"', async (_heading, code) => {
    const store = await startStore();
    try {
      vi.stubEnv('XENSTORED_PATH', store.path);
      const printed: string[] = [];
      vi.spyOn(console, 'log').mockImplementation((...values: unknown[]) => {
        printed.push(values.map((value) => (typeof value === 'string' ? value : inspect(value))).join(' '));
      });
      const file = join(temporaryDirectory(), 'example.ts');
      writeFileSync(file, code.replaceAll('xenchannel/xenstore', LIBRARY));
      await import(file);
      const promised = [...code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(([, output]) => output);
      expect(printed).toEqual(promised);
      expect(promised.length).toBeGreaterThan(0);
    } finally {
      await store.stop();
    }
  });

  it('states the limits that the code has', async () => {
    const core = await import('../../xenstore/client/core.js');
    const watches = await import('../../xenstore/client/watches.js');
    const connection = await import('../../xenstore/client/connection.js');
    expect(README).toContain(`| requests in flight | ${core.MAX_IN_FLIGHT};`);
    expect(README).toContain(`| requests waiting | ${core.MAX_WAITING} |`);
    expect(README).toContain(`over \`/dev/xen/xenbus\` ${connection.MAX_DEVICE_PAYLOAD_BYTES} |`);
    expect(README).toContain(`| different paths waiting for one listener | ${watches.MAX_QUEUED_EVENTS},`);
  });
});
