/**
 * Boots the lab (scripts/xen-lab) and tells how each scenario went. A scenario is a shell script in scenarios/ whose first
 * line is the sentence that it proves; it runs in dom0 of a genuine Xen.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Scenario {
  readonly name: string;
  readonly sentence: string;
}

export interface Outcome {
  readonly status: number;
  readonly seconds: number;
  readonly output: string;
}

const HERE = fileURLToPath(new URL('.', import.meta.url));
const LAB = fileURLToPath(new URL('../../scripts/xen-lab', import.meta.url));

/** `XENCHANNEL_SCENARIOS="10-attach 60-seven"` runs only these, `"!90-compare"` all others. */
export function listScenarios(environment: NodeJS.ProcessEnv = process.env): Scenario[] {
  const words = environment['XENCHANNEL_SCENARIOS']?.split(' ').filter((word) => word !== '') ?? [];
  const wanted = words.filter((word) => !word.startsWith('!'));
  return readdirSync(join(HERE, 'scenarios'))
    .sort()
    .map((file) => ({ name: file.replace(/\.sh$/, ''), path: join(HERE, 'scenarios', file) }))
    .filter(({ name }) => !words.includes(`!${name}`) && (wanted.length === 0 || wanted.includes(name)))
    .map(({ name, path }) => ({ name, sentence: readFileSync(path, 'utf8').split('\n', 1)[0]?.slice(2) ?? name }));
}

export interface Boot {
  /** What is booted, for people. */
  readonly title: string;
  readonly scenarios: readonly Scenario[];
  /** For `xen-lab run`. */
  readonly options: readonly string[];
  /** It measures: nothing else may run beside it. */
  readonly alone?: true;
}

export interface BootResult {
  /** Where the boot has left its files. */
  readonly directory: string;
  readonly outcomes: ReadonlyMap<string, Outcome>;
}

/** On a slow host, too, where a boot with all scenarios takes twice as long as on one with two quiet processors. */
const BOOT_LIMIT_SECONDS = '3600';
/**
 * One emulated machine keeps one processor busy, whether it has one or two of its own. Two that have two each do next to
 * nothing: a processor that holds a lock waits while others spin for it.
 */
const BOOTS_AT_A_TIME = 2;
const CPUS_BESIDE_OTHERS = '1';

/** Starts all boots: some at a time, then one after the other those that must be alone. */
export function startBoots(boots: readonly Boot[]): ReadonlyMap<Boot, Promise<BootResult>> {
  const results = new Map<Boot, Promise<BootResult>>();
  const starters = new Map<Boot, () => Promise<unknown>>();
  for (const boot of boots) {
    const result = new Promise<BootResult>((resolve) => {
      starters.set(boot, () => {
        const run = runInLab(boot);
        resolve(run);
        return run.catch(() => {});
      });
    });
    result.catch(() => {}); // told when somebody asks for it
    results.set(boot, result);
  }
  const takeTurns = async (queue: Boot[]): Promise<void> => {
    for (let boot = queue.shift(); boot !== undefined; boot = queue.shift()) await starters.get(boot)?.();
  };
  void (async () => {
    await runLab(['build']);
    const together = boots.filter(({ alone }) => alone !== true);
    await Promise.all(Array.from({ length: BOOTS_AT_A_TIME }, () => takeTurns(together)));
    await takeTurns(boots.filter(({ alone }) => alone === true));
  })();
  return results;
}

async function runLab(args: readonly string[], settings: NodeJS.ProcessEnv = {}): Promise<number | null> {
  const env = { ...process.env, ...settings };
  const lab = spawn(LAB, args, { stdio: ['ignore', 'inherit', 'inherit'], env });
  return new Promise((resolve, reject) => {
    lab.on('error', reject);
    lab.on('exit', resolve);
  });
}

/** Boots, runs the scenarios in order, and returns what each of them said. Prints each as it ends. */
async function runInLab({ scenarios, options, alone }: Boot): Promise<BootResult> {
  const directory = mkdtempSync(join(tmpdir(), 'xenchannel-real-xen-'));
  const names = scenarios.map(({ name }) => name).join(' ');
  // As vitest's --retry, which cannot boot anew: what fails is tried once more.
  const again = process.env['XENCHANNEL_RETRY'] === undefined ? '' : 'retry ';
  const fixed = [
    'run',
    '--product',
    '--timeout',
    BOOT_LIMIT_SECONDS,
    '--run-directory',
    directory,
    '--arguments',
    `${again}${names}`,
  ];
  const settings = alone === true ? {} : { LAB_CPUS: CPUS_BESIDE_OTHERS };
  const status = await runLab([...fixed, ...options, join(HERE, 'run-scenarios.sh'), HERE], settings);
  const results = join(directory, 'out', 'results');
  if (!existsSync(results)) throw new Error(`the lab did not run (exit ${status}), see ${directory}/console.txt`);
  const outcomes = new Map<string, Outcome>();
  for (const line of readFileSync(results, 'utf8').trim().split('\n')) {
    const [name = '', code, seconds] = line.split(' ');
    const output = readFileSync(join(directory, 'out', `${name}.txt`), 'utf8');
    outcomes.set(name, { status: Number(code), seconds: Number(seconds), output });
  }
  return { directory, outcomes };
}
