/** Runs commands in this process, on a simulated xenstored behind a real socket. */
import { PassThrough } from 'node:stream';
import { systemClock } from '../../src/base/clock.js';
import { ChannelError } from '../../src/base/errors.js';
import type { Input, Io } from '../../src/cli/io.js';
import { run } from '../../src/cli/run.js';
import type { Store } from '../../xenstore/index.js';
import { startStore } from '../support/simulated-store.js';

export interface CliHost {
  readonly store: Store;
  readonly runDirectory: string;
  readonly storePath: string;
  readonly env: NodeJS.ProcessEnv;
  stop(): Promise<void>;
}

export async function startCliHost(): Promise<CliHost> {
  const simulated = await startStore();
  const { dom0, directory, path } = simulated;
  await dom0.write('/local/domain/0/name', 'Domain-0');
  return {
    store: dom0,
    runDirectory: directory,
    storePath: path,
    env: { XENSTORED_PATH: path, XENCHANNEL_RUNDIR: directory, XENCHANNEL_STATEDIR: `${directory}/state` },
    stop: () => simulated.stop(),
  };
}

/** Collects what is written. */
class Collector {
  text = '';
  readonly chunks: Buffer[] = [];
  isTTY = false;
  columns = 80;
  write(text: string | Uint8Array): boolean {
    this.chunks.push(Buffer.from(text));
    this.text += Buffer.from(text).toString('utf8');
    return true;
  }
}

export class FakeTerminal extends PassThrough {
  readonly isTTY = true;
  readonly modes: boolean[] = [];
  setRawMode(raw: boolean): this {
    this.modes.push(raw);
    return this;
  }
}

export interface CliRun {
  readonly out: Collector;
  readonly err: Collector;
  readonly done: Promise<number>;
  interrupt(): void;
  /** SIGUSR1. */
  poke(): void;
}

/** Starts a command; `done` gives its exit code. */
export function start(
  env: NodeJS.ProcessEnv,
  argv: readonly string[],
  stdin: Input = new PassThrough(),
  /** Of the terminal that stdout is; without them it is none. */
  columns?: number,
): CliRun {
  const stopping = new AbortController();
  const out = new Collector();
  if (columns !== undefined) Object.assign(out, { isTTY: true, columns });
  const err = new Collector();
  const poked = new Set<() => void>();
  const io: Io = {
    stdin,
    stdout: out,
    stderr: err,
    env,
    clock: systemClock,
    signal: stopping.signal,
    onUserSignal: (fn) => {
      poked.add(fn);
      return () => poked.delete(fn);
    },
  };
  return {
    out,
    err,
    done: run(argv, io),
    poke: () => {
      for (const fn of poked) fn();
    },
    interrupt: () => stopping.abort(new ChannelError('interrupted', 'interrupted by SIGINT')),
  };
}

export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export async function cli(env: NodeJS.ProcessEnv, ...argv: string[]): Promise<CliResult> {
  const { done, out, err } = start(env, argv);
  return { code: await done, out: out.text, err: err.text };
}
