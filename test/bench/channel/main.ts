/**
 * The command behind `scripts/bench channel`: the same load through our ring, session and socket and through socat, in
 * turn, and a table of both with what was aimed at. Exit status 0 when all targets are met, 1 when not.
 */
import { availableParallelism, cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { OurRelay, runLoad, throughPeer, whileHeld } from './relays.js';
import {
  IDLE_CPU_TARGET_PERCENT,
  MEASURES,
  MEMORY_TARGET_KIB,
  MOST_CHANNELS,
  PLACEMENTS,
  type Placement,
  type Reference,
  ROWS,
  type Row,
  type SpoolPlace,
  SUBJECT_NAMES,
  type Subject,
  type Target,
} from './rows.js';

interface Setting {
  readonly program: string;
  /** The compiled limit.c. */
  readonly limit: string;
  readonly references: readonly Reference[];
  readonly placement: Placement;
  readonly spool: SpoolPlace;
  readonly rounds: number;
  readonly seconds: string;
}

interface Result {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  readonly peer?: string;
  readonly peerValue?: number;
  readonly ratio?: number;
  readonly target: Target;
  readonly met: boolean;
  readonly references: readonly { readonly name: string; readonly value: number; readonly ratio: number }[];
}

/** Of each measure and subject, the figures of every round. */
type Figures = Map<string, number[][]>;

const IDLE_SECONDS = 5;
const SETTLE_SECONDS = 1;
const MAX_TRIES = 4;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

async function measureAll(setting: Setting, names: readonly string[]): Promise<Figures> {
  const figures: Figures = new Map();
  const relays = new Map<string, OurRelay>();
  try {
    for (const name of names) await relayFor(setting, name, relays);
    // The first round is not counted: a daemon has been running for a while.
    for (let round = 0; round <= setting.rounds; round++) {
      for (const name of names) await measureOnce(setting, name, round, relays, figures);
      if (round === 0) figures.clear();
    }
  } finally {
    for (const relay of relays.values()) await relay.stop();
  }
  return figures;
}

async function relayFor(setting: Setting, name: string, relays: Map<string, OurRelay>): Promise<OurRelay> {
  const { served = 1, host = 'socket', breaks = false } = MEASURES[name] ?? {};
  const key = `${served} ${host} ${breaks}`;
  const relay = relays.get(key) ?? (await OurRelay.start({ ...setting, channels: served, host, breaks }));
  relays.set(key, relay);
  return relay;
}

/**
 * A reader that gets no CPU time for so long that a daemon drops output for it says nothing about speed: on a busy machine
 * it is tried again, with another relay, and told.
 */
async function throughOurs(
  setting: Setting,
  name: string,
  relays: Map<string, OurRelay>,
  through: (folder: string) => Promise<number[]>,
): Promise<number[]> {
  for (let tries = 1; ; tries++) {
    const relay = await relayFor(setting, name, relays);
    try {
      return await through(relay.folder);
    } catch (error) {
      const dropped = await relay.droppedBytes();
      if (dropped === 0 || tries === MAX_TRIES) throw error;
      console.error(`${name}: ${dropped} bytes were dropped, the reader got no CPU time; tried again`);
      for (const [key, one] of relays) if (one === relay) relays.delete(key);
      await relay.stop();
    }
  }
}

async function measureOnce(
  setting: Setting,
  name: string,
  round: number,
  relays: Map<string, OurRelay>,
  figures: Figures,
): Promise<void> {
  const { program, placement, seconds, limit, references } = setting;
  const measure = MEASURES[name];
  if (measure === undefined) throw new Error(`no measure ${name}`);
  const { host = 'socket' } = measure;
  const subjects = measure.hasReferences ? [...measure.subjects, ...references] : measure.subjects;
  for (const subject of subjects) {
    const through = (folder: string) => {
      const values: Record<string, string> = { FOLDER: folder, SECONDS: seconds, SEED: String(round + 1) };
      const args = measure.load.map((word) => values[word] ?? word);
      return runLoad(program, placement, args);
    };
    const found =
      subject === 'ours'
        ? await throughOurs(setting, name, relays, through)
        : await throughPeer({ subject, placement, host, limit }, through);
    const key = `${name} ${subject}`;
    figures.set(key, [...(figures.get(key) ?? []), found]);
  }
}

function isMet(target: Target, value: number, ratio: number): boolean {
  if ('atLeast' in target) return ratio >= target.atLeast;
  if ('atMost' in target) return ratio <= target.atMost;
  return 'most' in target ? value <= target.most : true;
}

/** Ratios are taken round by round, so that other load on the machine hits both sides alike. */
function resultOf(row: Row, figures: Figures, { references }: Setting): Result {
  const column = (measure: string, subject: Subject) =>
    (figures.get(`${measure} ${subject}`) ?? []).map((found) => found[row.column] ?? Number.NaN);
  const scale = row.unit === 'MB/s' ? 1e-6 : 1;
  const ours = column(row.measure, 'ours');
  const value = median(ours) * scale;
  const { name, unit, target } = row;
  if (row.peer === undefined) return { name, unit, value, target, met: true, references: [] };
  const { subject, measure } = row.peer;
  const theirs = column(measure ?? row.measure, subject);
  const toTheirs = (those: readonly number[]): number =>
    median(those.map((figure, round) => figure / (theirs[round] ?? Number.NaN)));
  const ratio = toTheirs(ours);
  return {
    name,
    unit,
    value,
    peer: measure === undefined ? SUBJECT_NAMES[subject] : 'one channel',
    peerValue: median(theirs) * scale,
    ratio,
    target,
    met: isMet(target, value, ratio),
    references: references
      .map((reference) => ({ name: SUBJECT_NAMES[reference], found: column(row.measure, reference) }))
      .filter(({ found }) => found.length > 0)
      .map(({ name, found }) => ({ name, value: median(found) * scale, ratio: toTheirs(found) })),
  };
}

/** What 1000 connected channels that have carried something cost while nothing happens, both of their sockets included. */
async function measureIdle({ program, placement, spool }: Setting): Promise<Result[]> {
  const residentBytes = async (channels: number, look: (relay: OurRelay) => Promise<void>) => {
    const relay = await OurRelay.start({ placement, spool, channels, nodeOptions: ['--expose-gc'] });
    try {
      return await whileHeld(program, placement, relay, channels, async () => {
        await relay.collectGarbage();
        await sleep(SETTLE_SECONDS * 1000);
        await look(relay);
        return relay.residentBytes;
      });
    } finally {
      await relay.stop();
    }
  };
  let percent = 0;
  const one = await residentBytes(1, async () => {});
  const many = await residentBytes(MOST_CHANNELS, async (relay) => {
    const before = relay.cpuNanoseconds;
    await sleep(IDLE_SECONDS * 1000);
    percent = ((relay.cpuNanoseconds - before) / (IDLE_SECONDS * 1e9)) * 100;
  });
  const kibibytes = (many - one) / (MOST_CHANNELS - 1) / 1024;
  return [
    bounded('memory per idle channel, of 1000', 'KiB', kibibytes, MEMORY_TARGET_KIB),
    bounded('CPU with 1000 idle channels', '%', percent, IDLE_CPU_TARGET_PERCENT),
  ];
}

function bounded(name: string, unit: string, value: number, most: number): Result {
  return { name, unit, value, target: { most }, met: value <= most, references: [] };
}

function short(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

function aimOf(target: Target, unit: string): string {
  if ('atLeast' in target) return `>= ${target.atLeast.toFixed(2)}x`;
  if ('atMost' in target) return `<= ${target.atMost.toFixed(2)}x`;
  return 'most' in target ? `<= ${target.most} ${unit}` : '';
}

function print({ name, unit, value, peer, peerValue, ratio, target, met, references }: Result): void {
  const cells = [
    `${name.padEnd(33)} ${unit.padEnd(4)}`,
    short(value).padStart(7),
    `${(peer ?? '').padEnd(13)} ${(peerValue === undefined ? '' : short(peerValue)).padStart(7)}`,
    (ratio === undefined ? '' : `${ratio.toFixed(2)}x`).padStart(6),
    aimOf(target, unit).padEnd(9),
    'none' in target ? '' : met ? 'met' : 'MISSED',
  ];
  console.log(cells.join(' | ').trimEnd());
  for (const reference of references) {
    const figures = [short(reference.value).padStart(7), ''.padEnd(21), `${reference.ratio.toFixed(2)}x`.padStart(6)];
    console.log([`  ${reference.name.padEnd(36)}`, ...figures].join(' | '));
  }
}

/** Both, because neither is the whole truth: one shows what the work costs, the other what a user sees. */
const BOTH: readonly Placement[] = ['pinned', 'free'];

function placementsOf(word: string): readonly Placement[] | undefined {
  if (word === 'both') return BOTH;
  return Object.hasOwn(PLACEMENTS, word) ? [word as Placement] : undefined;
}

/** One table. */
async function run(setting: Setting, only: string, quiet: boolean): Promise<Result[]> {
  const { placement, rounds, seconds, spool } = setting;
  const rows = ROWS.filter(({ name, measure }) => name.includes(only) || measure === only);
  const names = new Set(rows.flatMap(({ measure, peer }) => (peer?.measure ? [peer.measure, measure] : [measure])));
  if (!quiet) {
    console.log(
      `\n${placement}: relay and load on ${PLACEMENTS[placement]}; spools in ${spool === 'file' ? 'files' : 'memory'}; medians of ${rounds} rounds of ${seconds} s, in turn, ratios within rounds`,
    );
    console.log(`${'test'.padEnd(38)} |    ours | ${'peer'.padEnd(21)} |  ratio | target`);
  }
  const figures = await measureAll(setting, [...names]);
  const results = rows.map((row) => resultOf(row, figures, setting));
  if ('memory and idle CPU'.includes(only)) results.push(...(await measureIdle(setting)));
  if (!quiet) results.forEach(print);
  return results;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      load: { type: 'string', default: '' },
      limit: { type: 'string', default: '' },
      least: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '7' },
      seconds: { type: 'string', default: '1' },
      placement: { type: 'string', default: 'both' },
      spool: { type: 'string', default: 'file' },
      only: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
    },
  });
  const { load: program, limit, seconds, spool, only, json } = values;
  const placements = placementsOf(values.placement);
  if (placements === undefined || (spool !== 'file' && spool !== 'memory')) {
    console.error(`error: --placement is both, ${Object.keys(PLACEMENTS).join(' or ')}, --spool is file or memory`);
    return 2;
  }
  const rounds = Number(values.rounds);
  const references: Reference[] = values.least ? ['bare', 'least'] : ['bare'];
  const machine = `${cpus()[0]?.model ?? 'unknown CPU'}, ${availableParallelism()} CPUs, Node ${process.version}`;
  if (!json) console.log(machine);
  const tables: { readonly placement: Placement; readonly results: readonly Result[] }[] = [];
  for (const placement of placements) {
    tables.push({
      placement,
      results: await run({ program, limit, references, placement, spool, rounds, seconds }, only, json),
    });
  }
  if (json) console.log(JSON.stringify({ machine, spool, rounds, seconds, tables }, null, 2));
  return tables.every(({ results }) => results.every(({ met }) => met)) ? 0 : 1;
}

process.exitCode = await main();
