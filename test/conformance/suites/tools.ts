/** Debian's own clients of xenstore: the same commands on a genuine daemon and on ours must print the same. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { encodeMessage, Op } from '../../../xenstore/wire.js';
import { splitWords } from '../notation.js';

export type Ended = { readonly status: number | string; readonly stdout: string; readonly stderr: string };

export type ToolOptions = {
  readonly cache: string;
  readonly socketPath: string;
  readonly limitMs?: number;
  readonly onOutput?: () => void;
};

const COMMAND_LIMIT_MS = 20_000;

/** Runs a program of the unpacked packages against the daemon at `socketPath`; `onOutput` is called when it prints. */
export function runTool(
  { cache, socketPath, limitMs = COMMAND_LIMIT_MS, onOutput = () => {} }: ToolOptions,
  program: string,
  args: readonly string[],
): Promise<Ended> {
  const folder = program === 'test-xenstore' ? 'root/usr/lib/xen-4.17/bin' : 'root/usr/bin';
  const child = spawn(join(cache, folder, program), args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      XENSTORED_PATH: socketPath,
      LD_LIBRARY_PATH: join(cache, 'root/usr/lib/x86_64-linux-gnu'),
    },
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('latin1').on('data', (text: string) => {
      output[name] += text;
      onOutput();
    });
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ status: code ?? signal ?? 'unknown', ...output });
    });
  });
}

function describe({ status, stdout, stderr }: Ended): string {
  return `status ${status}\n${stdout}${stderr === '' ? '' : `stderr: ${stderr}`}`;
}

/** Commands whose outcome differs, with both outcomes. */
export async function compareTools(
  commandFile: string,
  cache: string,
  genuine: string,
  ours: string,
): Promise<{ readonly run: number; readonly problems: readonly string[] }> {
  const commands = readFileSync(commandFile, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const problems: string[] = [];
  for (const command of commands) {
    const [program = '', ...args] = splitWords(command).map((word) => word.replace(/^"(.*)"$/, '$1'));
    const expected = describe(await runTool({ cache, socketPath: genuine }, program, args));
    const received = describe(await runTool({ cache, socketPath: ours }, program, args));
    // The programs print the socket they talk to in some errors.
    if (expected.replaceAll(genuine, 'SOCKET') !== received.replaceAll(ours, 'SOCKET')) {
      problems.push(`${command}\n  genuine: ${expected}\n  ours:    ${received}`);
    }
  }
  return { run: commands.length, problems };
}

const LOAD_LIMIT_MS = 60_000;
/** Requests that may be under way at once while events are made. */
const OUTSTANDING = 64;

/** Writes `/load/1` to `/load/<count>`, always with some requests outstanding. */
function writeMany(socketPath: string, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const reply = encodeMessage(Op.Write, 0, 0, Buffer.from('OK\0')).length;
    let [sent, received] = [0, 0];
    const send = () => {
      while (sent < count && sent - Math.floor(received / reply) < OUTSTANDING) {
        sent += 1;
        socket.write(encodeMessage(Op.Write, 0, 0, Buffer.from(`/load/${sent}\0x`)));
      }
    };
    socket.on('connect', send).on('error', reject);
    socket.on('data', (bytes) => {
      received += bytes.length;
      if (received >= count * reply) {
        socket.destroy();
        resolve();
      } else send();
    });
  });
}

/** xenstore-watch, with libxenstore's reader thread, gets every one of many events in order: what is wrong, if anything. */
export async function watchUnderLoad(cache: string, socketPath: string, events: number): Promise<string | undefined> {
  let ready = () => {};
  const registered = new Promise<void>((resolve) => {
    ready = resolve;
  });
  const options = { cache, socketPath, limitMs: LOAD_LIMIT_MS, onOutput: ready };
  const watcher = runTool(options, 'xenstore-watch', ['-n', String(events + 1), '/load']);
  // The first event comes with the registration.
  await Promise.race([registered, watcher]);
  await writeMany(socketPath, events);
  const { status, stdout, stderr } = await watcher;
  if (status !== 0) return `xenstore-watch ended with ${status}: ${stderr}`;
  const lines = stdout.trim().split('\n');
  const wrong = lines.findIndex((line, index) => line !== (index === 0 ? '/load' : `/load/${index}`));
  if (wrong >= 0) return `event ${wrong} is '${lines[wrong]}'`;
  return lines.length === events + 1 ? undefined : `${lines.length} events of ${events + 1}`;
}

const RANDOM_SECONDS = 5;

/**
 * Xen's own test of a xenstore daemon (xen:tools/tests/xenstore/test-xenstore.c): every case, then random ones. It
 * judges by itself; it is run on the genuine daemon, too, to know that the program works here.
 */
export async function runOfficialTest(
  cache: string,
  sockets: Readonly<Record<'genuine' | 'ours', string>>,
): Promise<string[]> {
  const problems: string[] = [];
  for (const [name, socketPath] of Object.entries(sockets)) {
    const options = { cache, socketPath, limitMs: 60_000 };
    const all = await runTool(options, 'test-xenstore', ['-i', '100']);
    const random = await runTool(options, 'test-xenstore', ['-r', String(RANDOM_SECONDS)]);
    for (const ended of [all, random]) {
      if (ended.status !== 0) problems.push(`${name}: test-xenstore failed\n${describe(ended)}`);
    }
  }
  return problems;
}
