/**
 * The tests of pyxs, a Python client by other authors, as a second opinion. Not all of them pass on a genuine daemon (one
 * demands a conflict where there is none, two leave a transaction open), so what counts is that each test ends on ours as
 * it does on the genuine one.
 */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { runTool } from './tools.js';

const LIMIT_MS = 90_000;
/** Fewer would mean that the suite was not really run. */
const LEAST_TESTS = 45;

/** pytest's last line. */
const SUMMARY = /^=+ .*\d+ passed.* in [\d.]+s/m;

type Ends = ReadonlyMap<string, string>;

/** Name of each test and how it ended; a test with an error at its end appears as both. */
async function endsOn(cache: string, top: string, socketPath: string): Promise<Ends> {
  // The tests look at /local/domain, which only a toolstack makes.
  await runTool({ cache, socketPath }, 'xenstore-write', ['/local/domain', '']);
  const child = spawn(
    'python3',
    ['-m', 'pytest', '-v', '-p', 'pyxs_live', '-p', 'no:cacheprovider', '-k', 'not XenBusConnection', 'tests'],
    {
      cwd: resolve(cache, 'pyxs'),
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        HOME: process.env['HOME'],
        PYTHONDONTWRITEBYTECODE: '1',
        PYTHONUNBUFFERED: '1',
        PYTHONPATH: [
          resolve(cache, 'pyxs'),
          resolve(cache, 'pytest/usr/lib/python3/dist-packages'),
          resolve(top, 'test/conformance/suites'),
        ].join(':'),
        XENSTORED_PATH: socketPath,
      },
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      // Threads that some tests leave behind may keep the interpreter from ending.
      if (SUMMARY.test(output)) child.kill('SIGKILL');
    });
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  await new Promise((done) => child.on('close', done));
  clearTimeout(timer);
  const ends = new Map<string, string>();
  for (const [, name = '', end = ''] of output.matchAll(
    /^(tests\/\S+::\S+) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)/gm,
  )) {
    ends.set(name, ends.has(name) ? `${ends.get(name)}+${end}` : end);
  }
  if (ends.size < LEAST_TESTS) throw new Error(`only ${ends.size} tests of pyxs ran:\n${output.slice(-2000)}`);
  return ends;
}

export async function comparePyxs(
  cache: string,
  top: string,
  genuine: string,
  ours: string,
): Promise<{ readonly run: number; readonly problems: readonly string[] }> {
  const expected = await endsOn(cache, top, genuine);
  const received = await endsOn(cache, top, ours);
  const problems = [...new Set([...expected.keys(), ...received.keys()])]
    .filter((name) => expected.get(name) !== received.get(name))
    .map((name) => `${name}: ${expected.get(name)} on the genuine daemon, ${received.get(name)} on ours`);
  return { run: expected.size, problems };
}
