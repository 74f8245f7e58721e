/** The command as users run it: built, in a process of its own. */
import { execFile, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { addDomain, addToolstackChannel } from '../dom0/host.js';
import { until } from '../support/until.js';
import { type CliHost, startCliHost } from './harness.js';

const TOP = fileURLToPath(new URL('../..', import.meta.url));

const LIST_LOADED_MODULES = `process.on('exit', () => process.stderr.write(Object.keys(require.cache).join('\\n')));`;

let built: string;
let host: CliHost;

beforeAll(() => {
  // Below node_modules, so that the built files find their dependencies.
  mkdirSync(join(TOP, 'node_modules/.cache'), { recursive: true });
  built = mkdtempSync(join(TOP, 'node_modules/.cache/xenchannel-'));
  writeFileSync(join(built, 'package.json'), '{"type":"module","version":"9.9.9"}');
  writeFileSync(join(built, 'loaded.cjs'), LIST_LOADED_MODULES);
  // Type errors are the business of the type check; what matters here is what it emits.
  spawnSync('npx', ['tsc', '-p', 'tsconfig.build.json', '--outDir', join(built, 'dist')], {
    cwd: TOP,
    stdio: 'ignore',
  });
});
afterAll(() => rmSync(built, { recursive: true, force: true }));

beforeEach(async () => {
  host = await startCliHost();
  await addDomain(host.store, 1, 'db1');
});
afterEach(() => host.stop());

const main = (): string => join(built, 'dist/src/cli/main.js');
const env = (): NodeJS.ProcessEnv => ({ ...process.env, ...host.env });
const sh = (script: string): Promise<{ stdout: string; stderr: string }> =>
  promisify(execFile)('/bin/bash', ['-c', script], { env: { ...env(), XC: `${process.execPath} ${main()}` } });

describe('the process', () => {
  it('prints its version and loads nothing it does not need', async () => {
    expect((await sh('$XC --version')).stdout).toBe('9.9.9\n');
    const { stderr } = await sh(`${process.execPath} --require ${built}/loaded.cjs ${main()} list`);
    expect(stderr).toContain('node_modules/commander/');
    expect(stderr).not.toMatch(/node_modules\/(koffi|ioredis|ws)\//);
  });

  it('attaches, lists and forces off', async () => {
    const { stdout, stderr } = await sh('$XC attach db1 a && $XC list --json && $XC detach db1 a --force && $XC list');
    expect(stdout).toContain(`attached a to domain db1 as device 1: socket ${host.runDirectory}/dom1/a\n`);
    expect(stdout).toMatch(/"channels": \[\n {4}\{/);
    expect(stdout).toMatch(/detached a from domain db1\nno channels\n$/);
    expect(stderr).toMatch(
      /^warning: no daemon answers at .*\nwarning: no daemon answers, so nobody can have the ring mapped/,
    );
  });

  it('has the exit code of its error', async () => {
    await expect(sh('$XC attach nope a')).rejects.toMatchObject({
      code: 3,
      stdout: '',
      stderr: 'xenchannel: no running domain has the id, name or uuid "nope" [domain-not-found]\n',
    });
  });

  it('ends quietly when nobody reads its output', async () => {
    for (let id = 1; id <= 200; id++) await host.store.write(`/libxl/1/device/console/${id}/name`, `channel${id}`);
    const { stdout, stderr } = await sh('$XC list --json | head -1; echo codes $PIPESTATUS');
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^\{\ncodes 0\n$/);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('ends with 130 at %s while it waits', async (signal) => {
    const child = spawn(process.execPath, [main(), 'attach', 'db1', 'a', '--wait', '60'], { env: env() });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const ended = new Promise<number | null>((settle) => child.on('exit', settle));
    while (!(await host.store.exists('/libxl/1/device/console/1'))) await new Promise(setImmediate);
    child.kill(signal);
    expect(await ended).toBe(130);
    expect(stderr).toContain(`xenchannel: interrupted by ${signal} [interrupted]\n`);
  });

  it('gives the terminal back as it was, whatever ends connect', async () => {
    const path = `${host.runDirectory}/channel.sock`;
    const server = createServer((socket) => socket.on('data', () => socket.write('echo')).on('error', () => {}));
    await new Promise<void>((listening) => server.listen(path, listening));
    await addToolstackChannel(host.store, 1, 1, 'a', path);
    for (const ending of ['escape', 'signal', 'hangup']) {
      const connect = `echo "pid $$"; exec ${process.execPath} ${main()} connect db1 a`;
      const script = `stty -g; sh -c '${connect}'; echo "code $?"; stty -g`;
      const child = spawn('script', ['-qec', script, '/dev/null'], { env: env() });
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
      const ended = new Promise((settle) => child.on('exit', settle));
      await until('it is connected', () => output.includes('leaves'), 15_000);
      const pid = Number(/pid (\d+)/.exec(output)?.[1]);
      if (ending === 'escape') child.stdin.write('typed\x1d');
      else if (ending === 'signal') {
        // In raw mode ^C is a byte for the channel; only a signal from outside interrupts.
        child.stdin.write('\x03');
        await until('the byte came through', () => output.includes('echo'), 15_000);
        process.kill(pid, 'SIGINT');
      } else process.kill(pid, 'SIGHUP');
      await ended;
      const lines = output.split(/\r?\n/);
      const modes = lines.filter((line) => /^[0-9a-f]+(:[0-9a-f]+)+$/.test(line));
      expect(modes).toHaveLength(2);
      expect(modes[1]).toBe(modes[0]);
      expect(output).toContain(ending === 'escape' ? 'code 0' : 'code 130');
    }
    server.close();
  }, 60_000);

  it('runs a xenstored that genuine clients can use, until it is told to stop', async () => {
    const socket = `${host.runDirectory}/other.sock`;
    const child = spawn(process.execPath, [main(), 'xenstored', '--socket', socket], { env: env() });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    const ended = new Promise<number | null>((settle) => child.on('exit', settle));
    await until('it is ready', () => output.includes('ready'), 15_000);
    expect(output).toContain(`export XENSTORED_PATH=${socket}\n`);
    const { stdout } = await sh(`export XENSTORED_PATH=${socket}; xenstore-write /a/b c && xenstore-read /a/b`);
    expect(stdout).toBe('c\n');
    await expect(sh(`$XC xenstored --socket ${socket}`)).rejects.toMatchObject({
      code: 4,
      stderr: expect.stringContaining('[path-in-use]'),
    });
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    await expect(sh(`XENSTORED_PATH=${socket} xenstore-read /a/b`)).rejects.toMatchObject({ code: 1 });
  });
});
