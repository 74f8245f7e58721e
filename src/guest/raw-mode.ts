/**
 * Raw mode of an open terminal: by system calls where they can be made, else through stty(1), which takes a process for
 * each question. Either way it is checked afterwards that all 256 byte values pass unchanged in both directions.
 */
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import type { Clock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import type { RawCalls } from '../sys/termios.js';

/** `raw` leaves echo, extended input processing and the character size as they are. */
export const RAW_ARGUMENTS = ['raw', '-echo', '-echonl', '-iexten', 'cs8', '-parenb', 'min', '1', 'time', '0'] as const;

/** Any of them changes, swallows or adds bytes. */
const HARMFUL: ReadonlySet<string> = new Set([
  ...['ignbrk', 'brkint', 'parmrk', 'inpck', 'istrip', 'inlcr', 'igncr', 'icrnl', 'ixon', 'ixoff', 'iuclc', 'opost'],
  ...['isig', 'icanon', 'iexten', 'echo', 'echonl', 'parenb', 'tostop'],
]);

/** A stty that waits for output to drain can wait for ever; this long it may. */
const STTY_TIMEOUT_MS = 5_000;
const MAX_OUTPUT_BYTES = 16 * 1024;

/** What `stty -a` says about a terminal that is not raw; undefined if it is. Reads GNU's and busybox' output. */
export function rawModeProblem(settings: string): string | undefined {
  const words = settings.split(/[\s;]+/);
  const harmful = words.filter((word) => HARMFUL.has(word));
  if (harmful.length > 0) return `${harmful.join(' ')} still set`;
  if (!words.includes('cs8')) return 'cs8 not set';
  if (!/\bmin = 1; time = 0;/.test(settings)) return 'min 1 time 0 not set';
  return undefined;
}

type Outcome = { readonly status: number | null; readonly output: string };

/** Runs stty with the terminal as its standard input: settings belong to the open terminal, not to a path. */
function stty(fd: number, parameters: readonly string[], clock: Clock): Promise<Outcome> {
  return new Promise((done, fail) => {
    const child = spawn('stty', parameters, {
      stdio: [fd, 'pipe', 'pipe'],
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' },
    });
    const timer = clock.after(STTY_TIMEOUT_MS, () => child.kill('SIGKILL'));
    let output = '';
    const collect = (chunk: Buffer): void => {
      if (output.length < MAX_OUTPUT_BYTES) output += chunk.toString('latin1');
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    child.on('error', (cause) => {
      timer.cancel();
      fail(new ChannelError('system-call-failed', `stty cannot be run: ${cause.message}`, {}, { cause }));
    });
    child.on('close', (status) => {
      timer.cancel();
      done({ status, output });
    });
  });
}

export interface RawModeOptions {
  readonly clock: Clock;
  /** Without them stty does it. */
  readonly calls: RawCalls | undefined;
}

/** Throws ChannelError `system-call-failed` unless the terminal is raw afterwards. `path` is for the sentence. */
export async function makeRaw(fd: number, path: string, { clock, calls }: RawModeOptions): Promise<void> {
  const problem = calls === undefined ? await makeRawByStty(fd, clock) : makeRawByCalls(fd, calls);
  if (problem === undefined) return;
  throw new ChannelError('system-call-failed', `${path} cannot be made raw: ${problem}`, { path });
}

/** What is wrong with the terminal afterwards. A terminal that is raw already is left as it is. */
function makeRawByCalls(fd: number, calls: RawCalls): string | undefined {
  if (calls.problem(fd) === undefined) return undefined;
  calls.set(fd);
  return calls.problem(fd);
}

/**
 * stty gets a descriptor of its own: libuv makes what a child inherits as its input blocking (libuv:src/unix/process.c,
 * uv__process_child_init), which would count for `fd`, too, and a read that finds nothing would then never return.
 */
async function makeRawByStty(held: number, clock: Clock): Promise<string | undefined> {
  const fd = openSync(`/proc/self/fd/${held}`, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  try {
    return await sttyRaw(fd, clock);
  } finally {
    closeSync(fd);
  }
}

async function sttyRaw(fd: number, clock: Clock): Promise<string | undefined> {
  const before = await stty(fd, ['-a'], clock);
  if (before.status === 0 && rawModeProblem(before.output) === undefined) return undefined;
  const set = await stty(fd, RAW_ARGUMENTS, clock);
  const after = await stty(fd, ['-a'], clock);
  const problem = after.status === 0 ? rawModeProblem(after.output) : `stty ended with ${after.status}`;
  const said = set.output.trim().slice(0, 200);
  return problem === undefined || said === '' ? problem : `${problem} (${said})`;
}
