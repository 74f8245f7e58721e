/**
 * The command behind `scripts/bench xenstore`: the same load on the genuine C xenstored and on ours, in turn, and a table
 * of both with what was aimed at. Exit status 0 when all targets are met, 1 when not, 2 for wrong arguments.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { GenuineDaemon } from '../../conformance/peers/genuine.js';
import { connectTo } from '../../conformance/peers/socket.js';
import { type BenchTest, FLAT, FREE, PINNED } from './tests.js';

type Target = { readonly name: string; readonly socketPath: string; readonly pid: number };
type Figures = { readonly figure: number; readonly second: number; readonly cpuMicros: number };
type Setting = { readonly load: string; readonly rounds: string; readonly seconds: string };

const START_LIMIT_MS = 10_000;
const GENUINE = 'xenstored-4.17';
const OURS = 'ours';

/** What answers without looking (limit.c): nothing that speaks the protocol over a socket can be much faster. */
const LEAST = 'least';

type Started = Target & { stop: () => void };

/** The product's own command, as a user starts it. */
function startOurs(program: string, folder: string): Promise<Started> {
  const socketPath = join(folder, 'socket');
  return start(OURS, socketPath, process.execPath, [program, 'xenstored', '--socket', socketPath]);
}

async function start(name: string, socketPath: string, command: string, args: readonly string[]): Promise<Started> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const end = Date.now() + START_LIMIT_MS;
  for (;;) {
    try {
      (await connectTo(socketPath)).close();
      return { name, socketPath, pid: child.pid ?? 0, stop: () => void child.kill() };
    } catch (error) {
      if (child.exitCode !== null || Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** Has all threads of the daemons run on these CPUs. */
function pin(targets: readonly Target[], cpuList: string): void {
  for (const { pid } of targets) execFileSync('taskset', ['-acp', cpuList, String(pid)], { stdio: 'ignore' });
}

async function run(
  { load, rounds, seconds }: Setting,
  targets: readonly Target[],
  tests: readonly BenchTest[],
  options: { readonly cpuList: string; readonly nodes?: number },
): Promise<Map<string, Figures>> {
  const args = ['-r', rounds, '-t', seconds, '-o', tests.map(({ key }) => key).join(',')];
  if (options.nodes !== undefined) args.push('-n', String(options.nodes));
  const daemons = targets.map(({ name, socketPath, pid }) => `${name}=${socketPath}@${pid}`);
  const child = spawn('taskset', ['-c', options.cpuList, load, ...args, ...daemons], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const status = await new Promise((resolve) => child.on('close', resolve));
  if (status !== 0) throw new Error(`the load generator ended with ${status}`);
  const figures = new Map<string, Figures>();
  for (const line of output.trim().split('\n')) {
    const [test, daemon, figure, second, cpuMicros] = line.split('\t');
    figures.set(`${test} ${daemon}`, { figure: Number(figure), second: Number(second), cpuMicros: Number(cpuMicros) });
  }
  return figures;
}

function short(value: number): string {
  if (value >= 10_000) return `${(value / 1000).toFixed(value >= 100_000 ? 0 : 1)}k`;
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** Prints a row; true when the target is met. */
function printRow(test: BenchTest, figures: ReadonlyMap<string, Figures>): boolean {
  const genuine = figures.get(`${test.key} ${GENUINE}`);
  const ours = figures.get(`${test.key} ${OURS}`);
  if (ours === undefined) throw new Error(`no figure for ${test.key}`);
  const better = (a: number, b: number) => (test.lowerIsBetter ? b / a : a / b);
  const ratio = genuine && better(ours.figure, genuine.figure);
  const met = 'ratio' in test.target ? (ratio ?? 0) >= test.target.ratio : ours.figure <= test.target.most;
  const aim = 'ratio' in test.target ? `>= ${test.target.ratio.toFixed(2)}x` : `<= ${test.target.most} ${test.unit}`;
  const cpu = (f: Figures | undefined) => (f && f.cpuMicros > 0 ? f.cpuMicros.toFixed(1) : '');
  const cells = [
    `${test.name.padEnd(28)} ${test.unit.padEnd(3)}`,
    `${(genuine ? short(genuine.figure) : '-').padStart(9)} ${cpu(genuine).padStart(8)}`,
    `${short(ours.figure).padStart(9)} ${cpu(ours).padStart(8)}`,
    `${(ratio === undefined ? '' : `${ratio.toFixed(2)}x`).padStart(7)}  ${aim.padEnd(9)} ${met ? 'met' : 'MISSED'}`,
  ];
  console.log(cells.join(' | '));
  const least = figures.get(`${test.key} ${LEAST}`);
  if (least !== undefined && genuine !== undefined) {
    const reached = `${better(least.figure, genuine.figure).toFixed(2)}x`;
    console.log(
      `  ${'without a look at the request'.padEnd(30)} | ${''.padStart(18)} | ${short(least.figure).padStart(9)} ${cpu(least).padStart(8)} | ${reached.padStart(7)}`,
    );
  }
  if (test.second !== undefined) {
    const extra = (f: Figures | undefined) => `${(f ? short(f.second) : '-').padStart(9)} ${''.padStart(8)}`;
    console.log(`  ${test.second.padEnd(30)} | ${extra(genuine)} | ${extra(ours)} |`);
  }
  return met;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      cache: { type: 'string', default: '' },
      program: { type: 'string', default: 'dist/src/cli/main.js' },
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '1' },
      only: { type: 'string', default: '' },
      'flat-both': { type: 'boolean', default: false },
      least: { type: 'boolean', default: false },
    },
  });
  const setting = { load: join(values.cache, 'load'), rounds: values.rounds, seconds: values.seconds };
  const wanted = (tests: readonly BenchTest[]) => tests.filter(({ key }) => key.includes(values.only));
  const all = `0-${availableParallelism() - 1}`;
  const folder = mkdtempSync(join(tmpdir(), 'xc-bench-'));
  const genuine = await GenuineDaemon.start(GENUINE, values.cache);
  const ours = await startOurs(values.program, folder);
  const leastPath = join(folder, 'least');
  const least = values.least ? await start(LEAST, leastPath, join(values.cache, 'limit'), [leastPath]) : undefined;
  try {
    const both = [{ name: GENUINE, socketPath: genuine.socketPath, pid: genuine.pid }, ours];
    console.log(
      `peer: Debian's C xenstored 4.17 (pid ${genuine.pid}), ours: Node ${process.version} (pid ${ours.pid})`,
    );
    console.log(
      `${cpus()[0]?.model ?? 'unknown CPU'}, ${availableParallelism()} CPUs; medians of ${values.rounds} rounds of ${values.seconds} s, in turn`,
    );
    console.log(
      `${'test'.padEnd(32)} | ${GENUINE.padStart(9)} ${'us'.padStart(3)} | ${OURS.padStart(9)} ${'us'.padStart(8)} |   ratio  target    (us: CPU of the daemon per operation)`,
    );
    let met = true;
    const section = async (
      tests: readonly BenchTest[],
      targets: readonly Target[],
      options: { cpuList: string; nodes?: number },
    ) => {
      for (const test of wanted(tests)) {
        const peers = least === undefined || test.least !== true ? targets : [...targets, least];
        met = printRow(test, await run(setting, peers, [test], options)) && met;
      }
    };
    const everybody = least === undefined ? both : [...both, least];
    pin(everybody, '0');
    await section(PINNED, both, { cpuList: '0' });
    pin(everybody, all);
    await section(FREE, both, { cpuList: all });
    await section(FLAT, values['flat-both'] ? both : [ours], { cpuList: all, nodes: 1_000_000 });
    return met ? 0 : 1;
  } finally {
    ours.stop();
    least?.stop();
    await genuine.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

process.exitCode = await main();
