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
import { checkClient } from './suites/client.js';
import { comparePyxs } from './suites/pyxs.js';
import { runRandom } from './suites/random.js';
import { judge, loadScripts, RECORDED_FROM, type Report, record, runScripts, type Scripts } from './suites/scripts.js';
import { runStress } from './suites/stress.js';
import { compareTools, runOfficialTest, watchUnderLoad } from './suites/tools.js';

type Setting = {
  readonly top: string;
  readonly cache: string;
  readonly like: GenuineKind;
  readonly only: string;
  readonly seed: number;
  readonly seconds: number | undefined;
  readonly stressSeconds: number | undefined;
};

/** More than any buffer between the daemon and libxenstore's reader thread holds. */
const WATCH_EVENTS = 50_000;

const OUR_LIKENESS = { 'xenstored-4.17': 'xenstored-4.17', 'oxenstored-4.17': 'oxenstored' } as const;

function folderOf(setting: Setting): string {
  return join(setting.top, 'test/conformance/scripts');
}

function scriptsOf(setting: Setting, like: string): Scripts {
  return loadScripts(folderOf(setting), like).filter(({ name }) => name.includes(setting.only));
}

const LIKENESSES = ['xenstored-4.17', 'xenstored', 'oxenstored'] as const;
/** So that everything takes less than three minutes. */
const DEFAULT_SECONDS = { random: 30, stress: 24 } as const;
/** Over all suites. */
const total = { run: 0, equal: 0, explained: 0 };

function count(run: number, equal: number, explained = 0): void {
  total.run += run;
  total.equal += equal;
  total.explained += explained;
}

function show(name: string, { run, equal, explained, problems }: Report, startedMs: number): boolean {
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  count(run, equal, explained);
  const known = explained === 0 ? '' : `, ${explained} differ as explained in differences.txt`;
  console.log(`${name.padEnd(38)} ${run} cases, ${equal} equal${known}, ${problems.length} problems  (${seconds} s)`);
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
  const outcomes = await runScripts(scripts, () => OurDaemon.start(OUR_LIKENESS[setting.like], 'rings'));
  return show(`ours: like ${setting.like}`, judge(scripts, outcomes, { like: setting.like, differences }), started);
}

/** Guests on sockets as well as on rings. */
async function oursInPieces(setting: Setting): Promise<boolean> {
  const differences = readFileSync(join(setting.top, 'test/conformance/differences.txt'), 'utf8');
  let good = true;
  for (const guests of ['rings', 'sockets'] as const) {
    const started = Date.now();
    const scripts = scriptsOf(setting, setting.like).map((script) => ({
      ...script,
      cases: script.cases.filter(({ rings }) => !rings || guests === 'rings'),
    }));
    const split = randomSplit(setting.seed);
    const outcomes = await runScripts(scripts, () => OurDaemon.start(OUR_LIKENESS[setting.like], guests), { split });
    const report = judge(scripts, outcomes, { like: setting.like, differences });
    good = show(`ours: split anywhere, guests on ${guests}`, report, started) && good;
  }
  return good;
}

/** The same for oxenstored: it still answers as recorded, and ours answers as it did. */
async function otherDaemon(setting: Setting): Promise<boolean> {
  const other: Setting = { ...setting, like: 'oxenstored-4.17' };
  if (setting.like === other.like) return true;
  const good = await genuineAgainstScripts(other);
  return (await oursAgainstScripts(other)) && good;
}

async function randomAgainstGenuine(setting: Setting): Promise<boolean> {
  const started = Date.now();
  const { cases, steps, difference } = await runRandom({
    seed: setting.seed,
    limitMs: (setting.seconds ?? DEFAULT_SECONDS.random) * 1000,
    directoryPart: setting.like !== 'oxenstored-4.17',
    startGenuine: () => GenuineDaemon.start(setting.like, setting.cache),
    startOurs: () => OurDaemon.start(OUR_LIKENESS[setting.like], 'rings'),
  });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const verdict = difference === undefined ? 'all equal' : 'DIFFERENT';
  count(cases, difference === undefined ? cases : cases - 1);
  console.log(`${'ours: random requests'.padEnd(38)} ${cases} cases, ${steps} steps, ${verdict}  (${seconds} s)`);
  if (difference !== undefined) console.log(difference);
  return difference === undefined;
}

async function stressOurs(setting: Setting): Promise<boolean> {
  let good = true;
  const likenesses = setting.like === 'oxenstored-4.17' ? (['oxenstored'] as const) : LIKENESSES;
  const { stressSeconds = setting.seconds ?? DEFAULT_SECONDS.stress } = setting;
  const limitMs = (stressSeconds * 1000) / likenesses.length;
  for (const like of likenesses) {
    const { requests, deaths, commits, conflicts, ...report } = await runStress({ like, seed: setting.seed, limitMs });
    const { kibPerSecond, grownMib, difference } = report;
    const verdict = difference === undefined ? 'no difference' : 'DIFFERENT';
    const memory = `memory ${kibPerSecond.toFixed(0)} KiB/s, ${grownMib.toFixed(1)} MiB in the second half`;
    console.log(
      `${`ours: stress, like ${like}`.padEnd(38)} ${requests} requests, ${deaths} deaths, ${commits} commits, ${conflicts} conflicts, ${memory}, ${verdict}  (${(limitMs / 1000).toFixed(1)} s)`,
    );
    count(1, difference === undefined ? 1 : 0);
    if (difference !== undefined) console.log(difference);
    good &&= difference === undefined;
  }
  return good;
}

/** Runs `use` with a fresh genuine daemon and a fresh one of ours. */
async function withBoth<T>(setting: Setting, use: (genuine: string, ours: string) => Promise<T>): Promise<T> {
  const genuine = await GenuineDaemon.start(setting.like, setting.cache);
  const ours = await OurDaemon.start(OUR_LIKENESS[setting.like], 'sockets');
  try {
    return await use(genuine.socketPath, ours.socketPath);
  } finally {
    await ours.close();
    await genuine.close();
  }
}

async function toolsOnBoth(setting: Setting): Promise<boolean> {
  const started = Date.now();
  const commands = join(setting.top, 'test/conformance/tools.txt');
  const { run, problems } = await withBoth(setting, (genuine, ours) =>
    compareTools(commands, setting.cache, genuine, ours),
  );
  const report = { run, equal: run - problems.length, explained: 0, problems };
  return show('ours: xenstore-utils', report, started);
}

async function pyxsOnBoth(setting: Setting): Promise<boolean> {
  const started = Date.now();
  const { run, problems } = await withBoth(setting, (genuine, ours) =>
    comparePyxs(setting.cache, setting.top, genuine, ours),
  );
  return show('ours: tests of pyxs', { run, equal: run - problems.length, explained: 0, problems }, started);
}

async function officialTest(setting: Setting): Promise<boolean> {
  const started = Date.now();
  const problems = await withBoth(setting, (genuine, ours) => runOfficialTest(setting.cache, { genuine, ours }));
  return show('ours: test-xenstore', { run: 2, equal: 2 - problems.length, explained: 0, problems }, started);
}

async function watchLoad(setting: Setting): Promise<boolean> {
  const started = Date.now();
  const problem = await withBoth(setting, (_genuine, ours) => watchUnderLoad(setting.cache, ours, WATCH_EVENTS));
  const problems = problem === undefined ? [] : [problem];
  return show(
    `ours: ${WATCH_EVENTS} events, libxenstore`,
    { run: 1, equal: 1 - problems.length, explained: 0, problems },
    started,
  );
}

async function ourClient(setting: Setting): Promise<boolean> {
  let good = true;
  for (const like of ['xenstored-4.17', 'oxenstored-4.17'] as const) {
    const started = Date.now();
    const reports = await withBoth({ ...setting, like }, async (genuine, ours) => [
      await checkClient(like, genuine),
      await checkClient(`ours, like ${like}`, ours),
    ]);
    const problems = reports.flatMap((report) => report.problems);
    const run = reports.reduce((sum, report) => sum + report.run, 0);
    const report = { run, equal: run - problems.length, explained: 0, problems };
    good = show(`our client: ${like} and ours`, report, started) && good;
  }
  return good;
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
  oxenstored: otherDaemon,
  tools: toolsOnBoth,
  official: officialTest,
  load: watchLoad,
  client: ourClient,
  pyxs: pyxsOnBoth,
  random: randomAgainstGenuine,
  stress: stressOurs,
};

function secondsOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      top: { type: 'string', default: '.' },
      cache: { type: 'string', default: '' },
      like: { type: 'string', default: RECORDED_FROM },
      only: { type: 'string', default: '' },
      seed: { type: 'string', default: '1' },
      seconds: { type: 'string' },
      'stress-seconds': { type: 'string' },
      without: { type: 'string', multiple: true, default: [] },
      record: { type: 'boolean', default: false },
    },
  });
  const { like } = values;
  const unknown = positionals.find((name) => SUITES[name] === undefined);
  if ((like !== 'xenstored-4.17' && like !== 'oxenstored-4.17') || unknown !== undefined) {
    console.error(`suites: ${Object.keys(SUITES).join(' ')}; --like xenstored-4.17 or oxenstored-4.17`);
    return 2;
  }
  const setting: Setting = {
    top: values.top,
    cache: values.cache,
    like,
    only: values.only,
    seed: Number(values.seed),
    seconds: secondsOf(values.seconds),
    stressSeconds: secondsOf(values['stress-seconds']),
  };
  if (values.record) return (await recordAll(setting)) ? 0 : 1;
  const chosen = (positionals.length > 0 ? positionals : Object.keys(SUITES)).filter(
    (name) => !values.without.includes(name),
  );
  const started = Date.now();
  const failed: string[] = [];
  for (const name of chosen) if (!((await SUITES[name]?.(setting)) ?? false)) failed.push(name);
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  const verdict = failed.length === 0 ? 'no unexplained difference' : `DIFFERENT: ${failed.join(', ')}`;
  console.log(
    `conformance: ${chosen.length} suites, ${total.run} cases, ${total.equal} equal, ${total.explained} explained, ${verdict}  (${seconds} s)`,
  );
  return failed.length === 0 ? 0 : 1;
}

process.exitCode = await main();
