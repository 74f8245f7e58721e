/**
 * The relays that are compared, as processes: ours and socat, each between FOLDER/g<i> and FOLDER/h<i>, and the load
 * beside them. Knows no targets.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { HostEnd, Placement, SpoolPlace, Subject } from './rows.js';

const everyCpu = `0-${availableParallelism() - 1}`;
const RELAY_CPU: Readonly<Record<Placement, string>> = { pinned: '0', apart: '0', free: everyCpu };
const LOAD_CPU: Readonly<Record<Placement, string>> = { pinned: '0', apart: '1', free: everyCpu };
const relayProgram = join(import.meta.dirname, 'relay.js');
const bareProgram = join(import.meta.dirname, 'bare.js');

function place(cpu: string, program: string, args: readonly string[]): ChildProcess {
  return spawn('taskset', ['-c', cpu, program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
}

function linesOf(child: ChildProcess): Interface {
  if (child.stdout === null) throw new Error('a child without stdout');
  return createInterface({ input: child.stdout });
}

async function nextLine(lines: Interface, child: ChildProcess): Promise<string> {
  const ended = once(child, 'exit').then(([status]) => {
    throw new Error(`it ended with ${status} before it was ready`);
  });
  const [line] = await Promise.race([once(lines, 'line'), ended]);
  return String(line);
}

export interface OurSetting {
  readonly placement: Placement;
  readonly spool: SpoolPlace;
  readonly channels: number;
  readonly host?: HostEnd;
  readonly nodeOptions?: readonly string[];
  /** As in rows.ts. */
  readonly breaks?: boolean;
}

/** Our relay in a process of its own, with a folder of its own. */
export class OurRelay {
  readonly folder = mkdtempSync(join(tmpdir(), 'xc-bench-'));
  readonly #child: ChildProcess;
  readonly #lines: Interface;

  private constructor({ placement, spool, channels, host = 'socket', nodeOptions = [], breaks = false }: OurSetting) {
    const args = [
      ...nodeOptions,
      relayProgram,
      this.folder,
      String(channels),
      host,
      spool,
      ...(breaks ? ['breaks'] : []),
    ];
    this.#child = place(RELAY_CPU[placement], process.execPath, args);
    this.#lines = linesOf(this.#child);
  }

  static async start(setting: OurSetting): Promise<OurRelay> {
    const relay = new OurRelay(setting);
    await nextLine(relay.#lines, relay.#child);
    return relay;
  }

  async collectGarbage(): Promise<void> {
    this.#child.stdin?.write('gc\n');
    await once(this.#lines, 'line');
  }

  async droppedBytes(): Promise<number> {
    this.#child.stdin?.write('dropped\n');
    const [line] = await once(this.#lines, 'line');
    return Number(line);
  }

  get residentBytes(): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'latin1');
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1024;
  }

  /** CPU time of all threads so far. */
  get cpuNanoseconds(): number {
    const tasks = `/proc/${this.#child.pid}/task`;
    return readdirSync(tasks).reduce(
      (sum, task) => sum + Number(readFileSync(`${tasks}/${task}/schedstat`, 'latin1').split(' ')[0]),
      0,
    );
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Runs load.c and returns its figures. */
export async function runLoad(program: string, placement: Placement, args: readonly string[]): Promise<number[]> {
  const child = place(LOAD_CPU[placement], program, args);
  let output = '';
  child.stdout?.setEncoding('latin1').on('data', (text: string) => {
    output += text;
  });
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`load ${args.join(' ')} ended with ${status}`);
  return output.trim().split('\t').map(Number);
}

export interface PeerSetting {
  readonly subject: Exclude<Subject, 'ours'>;
  readonly placement: Placement;
  readonly host: HostEnd;
  /** The compiled limit.c. */
  readonly limit: string;
}

function peerCommand({ subject, host, limit }: PeerSetting, folder: string): [program: string, args: string[]] {
  if (subject === 'least') return [limit, [folder]];
  if (subject === 'bare') return [process.execPath, [bareProgram, folder]];
  const size = subject === 'socat-64k' ? ['-b65536'] : [];
  const hostEnd = { socket: `UNIX-LISTEN:${join(folder, 'h0')}`, pty: `PTY,link=${join(folder, 'h0')},raw,echo=0` };
  return ['socat', [...size, `UNIX-LISTEN:${join(folder, 'g0')}`, hostEnd[host]]];
}

/** One run of the load through a relay that ends with it. */
export async function throughPeer<T>(setting: PeerSetting, run: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'xc-bench-'));
  const child = place(RELAY_CPU[setting.placement], ...peerCommand(setting, folder));
  const ended = once(child, 'exit');
  try {
    return await run(folder);
  } finally {
    child.kill();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Connects all channels, sends something through each, and keeps them open while `look` looks. */
export async function whileHeld<T>(
  program: string,
  placement: Placement,
  relay: OurRelay,
  channels: number,
  look: () => Promise<T>,
): Promise<T> {
  const child = place(LOAD_CPU[placement], program, ['hold', relay.folder, String(channels)]);
  const ended = once(child, 'exit');
  try {
    await nextLine(linesOf(child), child);
    return await look();
  } finally {
    child.stdin?.end();
    await ended;
  }
}
