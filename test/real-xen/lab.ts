/**
 * Boots the lab (scripts/xen-lab) once and tells how each scenario went. A scenario is a shell script in scenarios/
 * whose first line is the sentence that it proves; it runs in dom0 of a genuine Xen.
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

/** `XENCHANNEL_SCENARIOS="10-attach 60-seven"` runs only these. */
export function listScenarios(environment: NodeJS.ProcessEnv = process.env): Scenario[] {
  const wanted = environment['XENCHANNEL_SCENARIOS']?.split(' ');
  return readdirSync(join(HERE, 'scenarios'))
    .sort()
    .map((file) => ({ name: file.replace(/\.sh$/, ''), path: join(HERE, 'scenarios', file) }))
    .filter(({ name }) => wanted === undefined || wanted.includes(name))
    .map(({ name, path }) => ({ name, sentence: readFileSync(path, 'utf8').split('\n', 1)[0]?.slice(2) ?? name }));
}

/** Boots, runs the scenarios in order, and returns what each of them said. Prints each as it ends. */
export async function runInLab(scenarios: readonly Scenario[], options: readonly string[] = []) {
  const directory = mkdtempSync(join(tmpdir(), 'xenchannel-real-xen-'));
  const names = scenarios.map(({ name }) => name).join(' ');
  const lab = spawn(
    LAB,
    [
      'run',
      '--product',
      '--run-directory',
      directory,
      '--arguments',
      names,
      ...options,
      join(HERE, 'run-scenarios.sh'),
      HERE,
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const status = await new Promise<number | null>((resolve, reject) => {
    lab.on('error', reject);
    lab.on('exit', resolve);
  });
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
