/**
 * The command behind `scripts/bench attach`: how long it takes from `attach` to a usable link in the guest, for one
 * domain and for many, and how many xenstore round trips that is. Exit status 0 when all targets are met, 1 when not.
 */
import { availableParallelism, cpus } from 'node:os';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { type AttachTimes, Bed } from './bed.js';

/** On an idle machine, milliseconds; of 100 attaches at once, times what they take one after the other. */
const LINK_TARGET_MS = 60;
const PARALLEL_TARGET = 1;
/** Late answers whose sum outweighs what the work itself costs. */
const DELAY_MS = 40;

interface Result {
  readonly name: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly target?: { readonly most: number };
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

interface Cycle extends AttachTimes {
  readonly detached: number;
}

async function cycle(bed: Bed, domid: number): Promise<Cycle> {
  const times = await bed.attach(domid);
  return { ...times, detached: await bed.detach(domid) };
}

async function measureOne(cycles: number): Promise<Result[]> {
  const bed = await Bed.start({ domains: 1 });
  try {
    const [domid = 0] = bed.domids;
    await cycle(bed, domid); // not counted: a host has been running for a while
    const all: Cycle[] = [];
    for (let index = 0; index < cycles; index++) all.push(await cycle(bed, domid));
    const of = (pick: (cycle: Cycle) => number): number[] => all.map(pick);
    return [
      { name: 'attach to nodes written', unit: 'ms', values: of(({ written }) => written) },
      { name: 'attach to both connected', unit: 'ms', values: of(({ connected }) => connected) },
      {
        name: 'attach to the link',
        unit: 'ms',
        values: of(({ linked }) => linked),
        target: { most: LINK_TARGET_MS },
      },
      { name: 'detach', unit: 'ms', values: of(({ detached }) => detached) },
    ];
  } finally {
    await bed.stop();
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

async function measureMany(domains: number): Promise<Result[]> {
  const bed = await Bed.start({ domains });
  try {
    const { domids } = bed;
    const tries: number[] = [];
    const attachOne = async (domid: number): Promise<void> => {
      tries.push((await bed.attach(domid)).tries);
    };
    const inTurn = (work: (domid: number) => Promise<unknown>) =>
      timed(async () => {
        for (const domid of domids) await work(domid);
      });
    const atOnce = (work: (domid: number) => Promise<unknown>) => timed(() => Promise.all(domids.map(work)));
    const attached = await inTurn(attachOne);
    const detached = await inTurn((domid) => bed.detach(domid));
    tries.length = 0;
    const attachedAtOnce = await atOnce(attachOne);
    const retries = tries.map((count) => count - 1);
    const detachedAtOnce = await atOnce((domid) => bed.detach(domid));
    const most = attached * PARALLEL_TARGET;
    return [
      { name: `${domains} attaches in turn, to the link`, unit: 'ms', values: [attached] },
      { name: `${domains} attaches at once, to the link`, unit: 'ms', values: [attachedAtOnce], target: { most } },
      { name: 'retries of an attach at once', unit: '', values: retries },
      { name: `${domains} detaches in turn`, unit: 'ms', values: [detached] },
      { name: `${domains} detaches at once`, unit: 'ms', values: [detachedAtOnce] },
    ];
  } finally {
    await bed.stop();
  }
}

/** Of one cycle: requests of each, and what `delayMs` on each answer adds to the times. */
async function measureRoundTrips(): Promise<Result[]> {
  const cycles = 5;
  const run = async (delayMs: number) => {
    const bed = await Bed.start({ domains: 1, delayMs });
    try {
      const [domid = 0] = bed.domids;
      await cycle(bed, domid);
      const before = bed.counts();
      const all: Cycle[] = [];
      for (let index = 0; index < cycles; index++) all.push(await cycle(bed, domid));
      const after = bed.counts();
      const each = (who: 'attach' | 'daemon' | 'agents'): number => (after[who] - before[who]) / cycles;
      const median = (pick: (cycle: Cycle) => number): number => percentile(all.map(pick), 0.5);
      return { each, median };
    } finally {
      await bed.stop();
    }
  };
  const prompt = await run(0);
  const late = await run(DELAY_MS);
  const trips = (pick: (cycle: Cycle) => number): number[] => [(late.median(pick) - prompt.median(pick)) / DELAY_MS];
  return [
    { name: 'round trips to nodes written', unit: '', values: trips(({ written }) => written) },
    { name: 'round trips from there to the link', unit: '', values: trips(({ linked, written }) => linked - written) },
    { name: 'round trips of a detach', unit: '', values: trips(({ detached }) => detached) },
    { name: 'requests of attach and detach', unit: '', values: [prompt.each('attach')] },
    { name: 'requests of the daemon for both', unit: '', values: [prompt.each('daemon')] },
    { name: 'requests of the agent for both', unit: '', values: [prompt.each('agents')] },
  ];
}

const isMet = ({ values, target }: Result): boolean => target === undefined || percentile(values, 0.5) <= target.most;

const short = (value: number): string => value.toFixed(value >= 100 ? 0 : 1);

function print(result: Result): void {
  const { name, unit, values, target } = result;
  const cells = [
    `${name.padEnd(36)} ${unit.padEnd(2)}`,
    short(percentile(values, 0.5)).padStart(7),
    (values.length > 1 ? short(percentile(values, 0.95)) : '').padStart(7),
    (target === undefined ? '' : `<= ${short(target.most)}`).padEnd(9),
    target === undefined ? '' : isMet(result) ? 'met' : 'MISSED',
  ];
  console.log(cells.join(' | ').trimEnd());
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      cycles: { type: 'string', default: '50' },
      domains: { type: 'string', default: '100' },
      only: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
    },
  });
  const parts: Readonly<Record<string, () => Promise<Result[]>>> = {
    one: () => measureOne(Number(values.cycles)),
    'round-trips': measureRoundTrips,
    many: () => measureMany(Number(values.domains)),
  };
  const machine = `${cpus()[0]?.model ?? 'unknown CPU'}, ${availableParallelism()} CPUs, Node ${process.version}`;
  if (!values.json)
    console.log(`${machine}; everything in one process\n${'step'.padEnd(39)} |     p50 |     p95 | target`);
  const results: Result[] = [];
  for (const [name, measure] of Object.entries(parts)) {
    if (!name.includes(values.only)) continue;
    const found = await measure();
    results.push(...found);
    if (!values.json) found.forEach(print);
  }
  if (values.json) console.log(JSON.stringify({ machine, results }, null, 2));
  return results.every(isMet) ? 0 : 1;
}

process.exitCode = await main();
