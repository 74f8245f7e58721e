/**
 * A daemon in a process of its own, killed by SIGKILL in the middle of transfers, again and again: says what of its
 * losses and repeats goes beyond the bounds that the daemon states.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CRASH_BOUND, FILE_CRASH_BOUND } from '../../src/backend/session-types.js';
import { systemClock } from '../../src/base/clock.js';
import { parseChannelName } from '../../src/console/name.js';
import { attach } from '../../src/dom0/attach.js';
import { fetchDaemonStatus } from '../../src/dom0/control-client.js';
import { SharedHypervisor } from '../../src/hypervisor/shared-simulated.js';
import { SimulatedHost } from '../../src/simulation/host.js';
import { memoryTtys } from '../../src/simulation/memory-tty.js';
import { MemoryGuestEnd } from './guest-end.js';
import { HostClient } from './host-client.js';
import { Random } from './random.js';
import { type Interval, PositionalStream, StreamChecker } from './stream.js';

const LIMIT_BYTES = 65_536;
/** What a client's socket can hold on its way to the daemon (net.core.wmem_default). */
const SOCKET_BYTES = 212_992;
const START_MS = 20_000;
const STEPS_MS = 30_000;

export interface KillResult {
  readonly complaints: readonly string[];
  readonly kills: number;
  readonly up: StreamChecker;
  readonly down: StreamChecker;
}

/** The command, built below `top`'s node_modules so that it finds its dependencies. */
export function buildCommand(top: string): string {
  const built = join(top, 'node_modules/.cache/crash-process');
  mkdirSync(built, { recursive: true });
  writeFileSync(join(built, 'package.json'), '{"type":"module","version":"0.0.0"}');
  // Type errors are the business of the type check.
  spawnSync('npx', ['tsc', '-p', 'tsconfig.build.json', '--outDir', join(built, 'dist')], {
    cwd: top,
    stdio: 'ignore',
  });
  return join(built, 'dist/src/cli/main.js');
}

export interface KillOptions {
  readonly root: string;
  readonly seed: number;
  readonly kills: number;
  /** The built command. */
  readonly main: string;
  readonly print: (line: string) => void;
}

export async function killAgainAndAgain(options: KillOptions): Promise<KillResult> {
  const lines = memoryTtys();
  const shared = join(options.root, 'hypervisor');
  mkdirSync(shared, { recursive: true });
  const host = await SimulatedHost.start({
    root: join(options.root, 'h'),
    domains: 1,
    daemon: false,
    agent: false,
    ttys: lines,
    hypervisor: new SharedHypervisor(shared),
  });
  const victim = new Victim(options.main, shared, host);
  try {
    const spec = {
      name: parseChannelName('killed'),
      connection: 'socket',
      backend: 'native',
      limitBytes: LIMIT_BYTES,
    } as const;
    const environment = { runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock };
    const { path } = await attach(host.store, { domain: 'guest1', spec }, environment);
    await victim.start();
    const line = lines.lines.at(-1);
    if (line === undefined) throw new Error('the guest made no line');
    const transfer = new Transfer(path, new MemoryGuestEnd(line), new Random(options.seed));
    const result = await campaign(options, victim, transfer);
    if (host.domain(1).kernel.devices[0]?.state !== 'connected') result.push('the guest noticed');
    return { complaints: result, kills: options.kills, up: transfer.up, down: transfer.down };
  } finally {
    await victim.kill();
    await host.stop();
  }
}

async function campaign({ kills, seed, print }: KillOptions, victim: Victim, transfer: Transfer): Promise<string[]> {
  const random = new Random(seed ^ 1);
  const complaints: string[] = [];
  for (let done = 0; done < kills; done++) {
    const [up, down] = [transfer.up.end, transfer.down.end];
    const enough = random.between(10_000, 200_000);
    await transfer.until(() => transfer.up.end - up >= enough && transfer.down.end - down >= 10_000);
    const dying = victim.kill();
    for (let steps = 0; steps < 50; steps++) await transfer.step();
    await dying;
    const gap = await victim.start();
    if (gap !== (victim.spoolSurvives ? 'recovered' : 'no-handover'))
      complaints.push(`after kill ${done + 1} the daemon reported the gap ${gap}`);
    if ((done + 1) % 10 === 0)
      print(`${done + 1} kills, ${((transfer.up.end + transfer.down.end) / 2 ** 20).toFixed(0)} MiB checked`);
  }
  const { up: upTarget, down: downTarget } = transfer.sent;
  await transfer.until(() => transfer.up.end >= upTarget && transfer.down.end >= downTarget);
  return [...complaints, ...beyondBounds(transfer, kills, victim.spoolSurvives)];
}

function beyondBounds({ up, down }: Transfer, kills: number, spoolSurvives: boolean): string[] {
  const found: string[] = [];
  const larger = (what: string, holes: readonly Interval[], bound: number): void => {
    for (const { from, to } of holes)
      if (to - from > bound) found.push(`${what}: ${to - from} bytes are missing at ${from}, the bound is ${bound}`);
  };
  const repeatable = kills * (spoolSurvives ? FILE_CRASH_BOUND : CRASH_BOUND).repeatedFromGuestBytes;
  const spoolBytes = LIMIT_BYTES + CRASH_BOUND.lostFromGuestBytesBesidesSpool;
  if (up.repeated > repeatable) found.push(`to the host: ${up.repeated} bytes came twice, the bound is ${repeatable}`);
  if (down.repeated > 0) found.push(`to the guest: ${down.repeated} bytes came twice`);
  if (down.holes.length > kills) found.push(`to the guest: ${down.holes.length} holes for ${kills} kills`);
  larger('to the host', up.holes, spoolSurvives ? FILE_CRASH_BOUND.lostFromGuestBytes : spoolBytes);
  larger('to the guest', down.holes, CRASH_BOUND.lostFromClientBytes + SOCKET_BYTES);
  return found;
}

interface Status {
  readonly channels: readonly {
    readonly phase: string;
    readonly spool: string;
    readonly gap: { readonly reason: string } | null;
    readonly recovered: object | null;
  }[];
}

/** The daemon, in one process after the other. */
class Victim {
  readonly #main: string;
  readonly #shared: string;
  readonly #host: SimulatedHost;
  #process: ChildProcess | undefined;
  /** Its spools are in files: then nothing from the guest may be missing. */
  spoolSurvives = false;

  constructor(main: string, shared: string, host: SimulatedHost) {
    this.#main = main;
    this.#shared = shared;
    this.#host = host;
  }

  /** Resolves when the channel is served, with the gap that the daemon reports. */
  async start(): Promise<string | undefined> {
    const { runDirectory, storePath } = this.#host;
    const env = { ...process.env, XENSTORED_PATH: storePath, XENCHANNEL_RUNDIR: runDirectory };
    const command = [this.#main, 'daemon', '--log-level', 'error', '--hypervisor', this.#shared];
    this.#process = spawn(process.execPath, command, { env, stdio: ['ignore', 'ignore', 'inherit'] });
    const endMs = Date.now() + START_MS;
    while (Date.now() < endMs) {
      const status = (await fetchDaemonStatus({ runDirectory })) as Status | undefined;
      const channel = status?.channels[0];
      if (channel?.phase === 'connected') {
        this.spoolSurvives = channel.spool === 'file';
        return channel.gap?.reason ?? (channel.recovered === null ? undefined : 'recovered');
      }
      await turn();
    }
    throw new Error(`the daemon did not serve the channel within ${START_MS} ms`);
  }

  async kill(): Promise<void> {
    const dying = this.#process;
    this.#process = undefined;
    if (dying === undefined || dying.exitCode !== null || dying.signalCode !== null) return;
    const exit = once(dying, 'exit');
    dying.kill('SIGKILL');
    await exit;
  }
}

/** Both programs, as fast as the other side takes it. */
class Transfer {
  readonly sent = { up: 0, down: 0 };
  readonly up: StreamChecker;
  readonly down: StreamChecker;
  readonly #upStream = new PositionalStream(1);
  readonly #downStream = new PositionalStream(2);
  readonly #path: string;
  readonly #guest: MemoryGuestEnd;
  readonly #random: Random;
  #client: HostClient | undefined;

  constructor(path: string, guest: MemoryGuestEnd, random: Random) {
    this.#path = path;
    this.#guest = guest;
    this.#random = random;
    this.up = new StreamChecker('to the host', this.#upStream, () => this.sent.up);
    this.down = new StreamChecker('to the guest', this.#downStream, () => this.sent.down);
  }

  async step(): Promise<void> {
    const random = this.#random;
    this.sent.up += this.#guest.write(this.#upStream.bytes(this.sent.up, random.magnitude(4096)));
    this.down.push(this.#guest.read());
    if (this.#client === undefined || this.#client.over) {
      this.#client = new HostClient(this.#path, (bytes) => this.up.push(bytes));
    }
    this.sent.down += this.#client.write(this.#downStream.bytes(this.sent.down, random.magnitude(4096)));
    await turn();
  }

  async until(condition: () => boolean): Promise<void> {
    const endMs = Date.now() + STEPS_MS;
    while (!condition()) {
      if (Date.now() > endMs) {
        const { up, down, sent } = this;
        throw new Error(`nothing moved for ${STEPS_MS} ms: ${JSON.stringify({ sent, up: up.end, down: down.end })}`);
      }
      await this.step();
    }
  }
}

const turn = (): Promise<void> => new Promise((settle) => setImmediate(settle));
