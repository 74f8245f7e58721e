/**
 * Runs every attack of a hostile guest against the real daemon, while another domain's channel answers round trips:
 * says what each met, what it cost, and whether the other domain noticed.
 */

import { systemClock } from '../../src/base/clock.js';
import { ChannelError } from '../../src/base/errors.js';
import type { Logger } from '../../src/base/log.js';
import { backendPath, backendsPath, frontendPath, libxlPath, permissionSets } from '../../src/console/layout.js';
import { parseChannelName } from '../../src/console/name.js';
import { attach } from '../../src/dom0/attach.js';
import { detach } from '../../src/dom0/detach.js';
import { list } from '../../src/dom0/list.js';
import { SimulatedHost } from '../../src/simulation/host.js';
import { memoryTtys } from '../../src/simulation/memory-tty.js';
import { ATTACK_MS, ATTACKS, type Attack, type Scene } from './attacks.js';
import { MemoryGuestEnd } from './guest-end.js';
import { HostClient } from './host-client.js';
import { HostileGuest } from './hostile-guest.js';
import { Random } from './random.js';

export interface AttackReport {
  readonly name: string;
  readonly met: string;
  /** What must not be; empty: the daemon held. */
  readonly complaints: readonly string[];
  readonly logLines: number;
  /** Changes of the backend's own nodes that others saw. */
  readonly storeWrites: number;
  readonly heapBytes: number;
  readonly roundTrips: number;
  readonly p99Ms: number;
}

export interface HostileResult {
  readonly quietP99Ms: number;
  readonly reports: readonly AttackReport[];
  /** What was left when it was over. */
  readonly complaints: readonly string[];
}

const LIMITS = { logLines: 60, storeWrites: 120, heapBytes: 64 * 2 ** 20, p99Ms: 250, roundTrips: 10 } as const;
const WAIT_MS = 10_000;
const POLITE_DETACH_MS = 1000;
const UNNAMED_ID = 7;
const NAME = parseChannelName('hostile');

export async function runHostile(root: string, seed: number): Promise<HostileResult> {
  const lines = memoryTtys();
  let logLines = 0;
  const log: Logger = { log: () => void logLines++, with: () => log };
  const host = await SimulatedHost.start({ root, domains: 2, agent: false, ttys: lines, log });
  try {
    const victim = await makeVictim(host, lines);
    const guest = await HostileGuest.seize(host.domain(1), host.hypervisor);
    let storeWrites = 0;
    const watch = await host.store.watch(`${backendsPath(0)}/1`, () => void storeWrites++);
    const quiet = await victim.during(() => forMs(ATTACK_MS, () => {}));
    const reports: AttackReport[] = [];
    for (const attack of ATTACKS) {
      const deviceId = await plug(host);
      guest.use(deviceId);
      const before = { logLines, storeWrites, heap: process.memoryUsage().heapUsed };
      const { outcome, times } = await victim.during(() =>
        attempt(host, guest, attack, deviceId, new Random(seed), victim),
      );
      const cost = {
        logLines: logLines - before.logLines,
        storeWrites: storeWrites - before.storeWrites,
        heapBytes: Math.max(0, process.memoryUsage().heapUsed - before.heap),
        roundTrips: times.length,
        p99Ms: percentile(times, 0.99),
      };
      reports.push({ name: attack.name, ...outcome, ...cost, complaints: [...outcome.complaints, ...excesses(cost)] });
      await unplug(host, guest);
    }
    await watch.stop();
    await guest.store.close();
    victim.close();
    await host.destroyDomain(1);
    const complaints = await leftovers(host);
    return { quietP99Ms: percentile(quiet.times, 0.99), reports, complaints };
  } finally {
    await host.stop();
  }
}

function excesses(cost: Record<keyof typeof LIMITS, number>): string[] {
  const found: string[] = [];
  for (const key of ['logLines', 'storeWrites', 'heapBytes', 'p99Ms'] as const)
    if (cost[key] > LIMITS[key]) found.push(`${key} ${cost[key]}, the limit is ${LIMITS[key]}`);
  if (cost.roundTrips < LIMITS.roundTrips) found.push(`only ${cost.roundTrips} round trips of the other domain`);
  return found;
}

async function attempt(
  host: SimulatedHost,
  guest: HostileGuest,
  attack: Attack,
  deviceId: number,
  random: Random,
  victim: Victim,
): Promise<{ outcome: { met: string; complaints: string[] } }['outcome']> {
  let received = 0;
  const status = () =>
    host.daemon?.status().channels.find((channel) => channel.domid === 1 && channel.deviceId === deviceId);
  await until('the channel is served', () => status() !== undefined);
  const count = (bytes: Uint8Array): void => {
    received += bytes.length;
  };
  const dial = () => new HostClient(`${host.runDirectory}/dom1/${NAME}`, count);
  let client = dial();
  await until('the client is there', () => {
    // The socket comes a moment after the channel.
    if (client.over) client = dial();
    return client.connected && status()?.hostOpen === true;
  });
  const connected = () => until('the hostile ring is connected', () => status()?.phase === 'connected');
  const scene: Scene = {
    guest,
    random,
    status,
    victim: victim.ring,
    connected,
    client: () => client,
    clientReceived: () => received,
    repeat: (turn) => forMs(ATTACK_MS, turn),
    detach: async ({ force }) => {
      const startMs = performance.now();
      const environment = { runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock };
      const request = { domain: 'guest1', name: NAME, force, timeoutMs: POLITE_DETACH_MS };
      const outcome = await detach(host.store, request, environment).then(
        () => 'gone',
        (error: unknown) => {
          // Who asks politely may be told that the guest does not close; force must do.
          if (!force && error instanceof ChannelError && error.code === 'wait-timeout') return 'told of it';
          throw error;
        },
      );
      return `${outcome} after ${(performance.now() - startMs).toFixed(0)} ms`;
    },
    listUnnamed: (writeName) => listUnnamed(host, writeName),
  };
  try {
    if (attack.unconnected !== true) {
      await guest.offer(attack.memory);
      await connected();
      await guest.put('state', '4');
    }
    return { met: await attack.run(scene), complaints: [] };
  } catch (error) {
    return { met: 'a hole', complaints: [error instanceof Error ? error.message : String(error)] };
  } finally {
    client.leave({ drain: true });
  }
}

interface Victim {
  readonly ring: { readonly reference: number; readonly port: number };
  during<T>(work: () => Promise<T>): Promise<{ readonly outcome: T; readonly times: readonly number[] }>;
  close(): void;
}

/** A channel of domain 2 whose guest sends back what it gets. */
async function makeVictim(host: SimulatedHost, lines: ReturnType<typeof memoryTtys>): Promise<Victim> {
  const environment = { runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock };
  const spec = {
    name: parseChannelName('victim'),
    connection: 'socket',
    backend: 'native',
    limitBytes: 65_536,
    speakFirst: true,
  } as const;
  const { path } = await attach(host.store, { domain: 'guest2', spec, waitMs: WAIT_MS }, environment);
  const line = lines.lines.at(-1);
  if (line === undefined) throw new Error('the guest made no line');
  const guest = new MemoryGuestEnd(line);
  let received = 0;
  const client = new HostClient(path, (bytes) => {
    received += bytes.length;
  });
  await until('the victim has its client', () => client.connected);
  const times: number[] = [];
  const trip = async (): Promise<void> => {
    const wanted = received + 64;
    const startMs = performance.now();
    client.write(Buffer.alloc(64, 'r'));
    await until('the round trip is over', () => {
      guest.write(guest.read());
      return received >= wanted;
    });
    times.push(performance.now() - startMs);
  };
  const device = host.domain(2).kernel.devices[0];
  return {
    ring: { reference: device?.reference ?? 0, port: device?.port ?? 0 },
    during: async (work) => {
      times.length = 0;
      let working = true;
      const trips = (async () => {
        while (working) await trip();
      })();
      const outcome = await work().finally(() => {
        working = false;
      });
      await trips;
      return { outcome, times: [...times] };
    },
    close: () => client.leave({ drain: true }),
  };
}

async function plug(host: SimulatedHost): Promise<number> {
  const environment = { runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock };
  const spec = { name: NAME, connection: 'socket', backend: 'native', limitBytes: 65_536 } as const;
  return (await attach(host.store, { domain: 'guest1', spec }, environment)).deviceId;
}

async function unplug(host: SimulatedHost, guest: HostileGuest): Promise<void> {
  const environment = { runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock };
  // Its last good deed, so that nobody has to wait for it; where it cannot do even that, the daemon does without.
  await guest.put('state', '6');
  await detach(host.store, { domain: 'guest1', name: NAME, force: true }, environment).catch((error: unknown) => {
    // The attack was one on the detach itself.
    if (!(error instanceof ChannelError && error.code === 'channel-not-found')) throw error;
  });
  await until('the channel is over', () => host.daemon?.status().channels.every(({ domid }) => domid !== 1) === true);
  guest.withdraw();
}

/** A console that has no name yet, in a directory that the guest may write to. */
async function listUnnamed(host: SimulatedHost, writeName: (directory: string) => Promise<unknown>): Promise<string> {
  const address = { domid: 1, deviceId: UNNAMED_ID, backendDomid: 0 };
  const frontend = frontendPath(1, UNNAMED_ID);
  const { guest } = permissionSets(address);
  await host.store.transaction(async (tx) => {
    for (const [key, value] of [
      ['', ''],
      ['/backend', backendPath(address)],
      ['/state', '1'],
      ['/type', 'ioemu'],
    ] as const) {
      await tx.write(`${frontend}${key}`, value);
      await tx.setPermissions(`${frontend}${key}`, guest);
    }
    await tx.write(`${backendPath(address)}/frontend`, frontend);
    await tx.write(`${backendPath(address)}/state`, '1');
    await tx.write(`${libxlPath(1, UNNAMED_ID)}/backend`, backendPath(address));
    await tx.write(`${libxlPath(1, UNNAMED_ID)}/frontend`, frontend);
  });
  await writeName(frontend);
  const environment = { runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock };
  const shown = JSON.stringify(await list(host.store, environment, 'guest1'));
  for (const path of [frontend, backendPath(address), libxlPath(1, UNNAMED_ID)]) await host.store.rm(path);
  return shown;
}

async function leftovers(host: SimulatedHost): Promise<string[]> {
  const { hypervisor } = host;
  const victimOnly = (): boolean => hypervisor.mappedPages() === 1 && hypervisor.boundPorts() === 1;
  await until('everything of the hostile domain is given back', victimOnly).catch(() => {});
  return victimOnly() && hypervisor.zombies().length === 0
    ? []
    : [
        `${hypervisor.mappedPages()} pages, ${hypervisor.boundPorts()} ports, ${hypervisor.zombies().length} zombies left`,
      ];
}

async function forMs(ms: number, turn: () => void | Promise<void>): Promise<void> {
  for (const endMs = Date.now() + ms; Date.now() < endMs; ) {
    await turn();
    await nextTurn();
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const endMs = Date.now() + WAIT_MS;
  while (!condition()) {
    if (Date.now() > endMs) throw new Error(`waited ${WAIT_MS} ms in vain until ${what}`);
    await nextTurn();
  }
}

const nextTurn = (): Promise<void> => new Promise((settle) => setImmediate(settle));

function percentile(times: readonly number[], share: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.POSITIVE_INFINITY;
}

export function formatReports({ quietP99Ms, reports, complaints }: HostileResult): string {
  const rows = [
    ['attempt', 'log', 'writes', 'heap KiB', 'p99 ms', 'met'],
    ['(nobody attacks)', '', '', '', quietP99Ms.toFixed(2), ''],
    ...reports.map((report) => [
      report.name,
      String(report.logLines),
      String(report.storeWrites),
      String(Math.round(report.heapBytes / 1024)),
      report.p99Ms.toFixed(2),
      [report.met, ...report.complaints].join('; HOLE: '),
    ]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const table = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return [...table, ...complaints.map((complaint) => `HOLE: ${complaint}`)].join('\n');
}
