/** The command behind scripts/soak. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { killAgainAndAgain } from './crash-process.js';
import { formatReports, runHostile } from './hostile.js';
import { soak } from './soak.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
    channels: { type: 'string', default: '12' },
    crashes: { type: 'string', default: '20' },
    ptys: { type: 'boolean', default: false },
    kills: { type: 'string' },
    hostile: { type: 'boolean', default: false },
    command: { type: 'string', default: 'dist/src/cli/main.js' },
  },
});

const number = (name: 'seconds' | 'seed' | 'channels' | 'crashes', least: number): number => {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= least) return value;
  process.stderr.write(`--${name} is ${values[name]}: it must be a whole number from ${least} on\n`);
  process.exit(2);
};

const [seconds, seed] = [number('seconds', 1), number('seed', 0)];
const [channels, crashes] = [number('channels', 1), number('crashes', 0)];
const print = (line: string): void => void process.stdout.write(`${line}\n`);
const root = mkdtempSync(join(tmpdir(), 'xc-soak-'));
const again = `scripts/soak --seed ${seed} --seconds ${seconds} --channels ${channels} --crashes ${crashes}${values.ptys ? ' --ptys' : ''}`;

function failed(lines: readonly string[]): never {
  for (const line of lines) print(`NOT BALANCED: ${line}`);
  print(`again: ${again}`);
  rmSync(root, { recursive: true, force: true });
  process.exit(1);
}

process.on('uncaughtException', (error) => failed([error.stack ?? String(error)]));
process.on('unhandledRejection', (error) => failed([error instanceof Error ? (error.stack ?? '') : String(error)]));

if (values.hostile) {
  const result = await runHostile(join(root, 'h'), seed);
  print(formatReports(result));
  rmSync(root, { recursive: true, force: true });
  const held = result.complaints.length === 0 && result.reports.every(({ complaints }) => complaints.length === 0);
  process.exit(held ? 0 : 1);
}

if (values.kills !== undefined) {
  const kills = Number(values.kills);
  print(`scripts/soak --kills ${kills} --seed ${seed}`);
  const result = await killAgainAndAgain({ root, seed, kills, main: values.command, print });
  const { up, down } = result;
  const row = ({ label, received, missing, repeated, holes }: typeof up): string =>
    `${label.padEnd(14)} received ${received}, missing ${missing} in ${holes.length} holes, twice ${repeated}`;
  print(row(up));
  print(row(down));
  if (result.complaints.length > 0) failed(result.complaints);
  print(`within the stated bounds after ${kills} kills of a real process`);
  rmSync(root, { recursive: true, force: true });
  process.exit(0);
}

print(again);
const { complaints, counts } = await soak({
  root: join(root, 'h'),
  seed,
  seconds,
  channels,
  crashes,
  ptys: values.ptys,
  print,
});
print(
  Object.entries(counts)
    .map(([what, count]) => `${what} ${count}`)
    .join(', '),
);
if (complaints.length > 0) failed(complaints);
print('balanced: every byte is delivered, or counted as dropped, or within the stated bound of a crash');
rmSync(root, { recursive: true, force: true });
