/**
 * The command behind scripts/conformance: runs the suites against the genuine daemons and against ours and prints what
 * differs. Exit status 0 when nothing does, 1 when something does, 2 for wrong arguments.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { GenuineDaemon, type GenuineKind } from './peers/genuine.js';
import { OurDaemon } from './peers/ours.js';
import { randomSplit } from './random.js';
import { judge, loadScripts, RECORDED_FROM, type Report, record, runScripts, type Scripts } from './suites/scripts.js';

type Setting = {
  readonly top: string;
  readonly cache: string;
  readonly like: GenuineKind;
  readonly only: string;
  readonly seed: number;
};

const OUR_LIKENESS = { 'xenstored-4.17': 'xenstored-4.17', 'oxenstored-4.17': 'oxenstored' } as const;

function folderOf(setting: Setting): string {
  return join(setting.top, 'test/conformance/scripts');
}

function scriptsOf(setting: Setting, like: string): Scripts {
  return loadScripts(folderOf(setting), like).filter(({ name }) => name.includes(setting.only));
}

function show(name: string, { run, equal, explained, problems }: Report, startedMs: number): boolean {
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  const known = explained === 0 ? '' : `, ${explained} differ as explained in differences.txt`;
  console.log(`${name.padEnd(34)} ${run} cases, ${equal} equal${known}, ${problems.length} problems  (${seconds} s)`);
  for (const problem of problems) console.log(problem);
  return problems.length === 0;
}

async function genuineAgainstScripts(setting: Setting): Promise<boolean> {
  const started = Date.now();
  const scripts = scriptsOf(setting, setting.like);
  const outcomes = await runScripts(scripts, () => GenuineDaemon.start(setting.like, setting.cache));
  return show(`${setting.like}: recording`, judge(scripts, outcomes), started);
}

async function oursAgainstScripts(setting: Setting): Promise<boolean> {
  const started = Date.now();
  const scripts = scriptsOf(setting, setting.like);
  const differences = readFileSync(join(setting.top, 'test/conformance/differences.txt'), 'utf8');
  const outcomes = await runScripts(scripts, async () => new OurDaemon(OUR_LIKENESS[setting.like]));
  return show(`ours: like ${setting.like}`, judge(scripts, outcomes, { like: setting.like, differences }), started);
}

async function oursInPieces(setting: Setting): Promise<boolean> {
  const started = Date.now();
  const scripts = scriptsOf(setting, setting.like);
  const differences = readFileSync(join(setting.top, 'test/conformance/differences.txt'), 'utf8');
  const split = randomSplit(setting.seed);
  const outcomes = await runScripts(scripts, async () => new OurDaemon(OUR_LIKENESS[setting.like]), { split });
  return show('ours: bytes split anywhere', judge(scripts, outcomes, { like: setting.like, differences }), started);
}

async function recordAll(setting: Setting): Promise<boolean> {
  const scripts = scriptsOf(setting, RECORDED_FROM);
  const outcomes = await runScripts(scripts, () => GenuineDaemon.start(setting.like, setting.cache));
  if (setting.like !== RECORDED_FROM) mkdirSync(join(folderOf(setting), setting.like), { recursive: true });
  record(folderOf(setting), setting.like, scripts, outcomes);
  console.log(`recorded ${outcomes.size} cases from ${setting.like}; review the changes before you commit them`);
  return true;
}

const SUITES: Readonly<Record<string, (setting: Setting) => Promise<boolean>>> = {
  recording: genuineAgainstScripts,
  ours: oursAgainstScripts,
  split: oursInPieces,
};

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      top: { type: 'string', default: '.' },
      cache: { type: 'string', default: '' },
      like: { type: 'string', default: RECORDED_FROM },
      only: { type: 'string', default: '' },
      seed: { type: 'string', default: '1' },
      record: { type: 'boolean', default: false },
    },
  });
  const { like } = values;
  const unknown = positionals.find((name) => SUITES[name] === undefined);
  if ((like !== 'xenstored-4.17' && like !== 'oxenstored-4.17') || unknown !== undefined) {
    console.error(`suites: ${Object.keys(SUITES).join(' ')}; --like xenstored-4.17 or oxenstored-4.17`);
    return 2;
  }
  const setting = { top: values.top, cache: values.cache, like, only: values.only, seed: Number(values.seed) } as const;
  if (values.record) return (await recordAll(setting)) ? 0 : 1;
  const chosen = positionals.length > 0 ? positionals : Object.keys(SUITES);
  let good = true;
  for (const name of chosen) good = ((await SUITES[name]?.(setting)) ?? false) && good;
  return good ? 0 : 1;
}

process.exitCode = await main();
