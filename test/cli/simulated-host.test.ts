/** The commands on a whole simulated host: real daemon, real guest agents, terminals. */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';
import { type CliResult, type CliRun, cli, start } from './harness.js';

let root: string;
let simulation: CliRun;
let env: NodeJS.ProcessEnv;

beforeEach(async () => {
  root = join(temporaryDirectory('xc-'), 'host');
  simulation = start({}, ['simulate', '--domains', '2', '--root', root]);
  await until('the simulated host is ready', () => simulation.out.text.includes('ready'), 15_000);
  const [, storePath, runDirectory] =
    /^export XENSTORED_PATH=(\S+) XENCHANNEL_RUNDIR=(\S+)$/m.exec(simulation.out.text) ?? [];
  env = { XENSTORED_PATH: storePath, XENCHANNEL_RUNDIR: runDirectory };
});
afterEach(async () => {
  simulation.interrupt();
  expect(await simulation.done).toBe(0);
  expect(existsSync(root)).toBe(false);
});

const xc = (...argv: string[]): Promise<CliResult> => cli(env, ...argv);
const dump = async (): Promise<string[]> =>
  (await promisify(execFile)('xenstore-ls', ['-fp'], { env: { ...process.env, ...env } })).stdout.split('\n');

describe('on a simulated host', () => {
  it('a channel is attached, talked over from both ends, and detached without a trace', async () => {
    const before = await dump();
    expect(await xc('attach', 'guest1', 'org.example.a', '--wait', '10')).toMatchObject({ code: 0, err: '' });
    const device = join(root, 'dom1/dev/xenchannel/org.example.a');
    await until('the guest has its link', () => existsSync(device), 10_000);

    const pipe = new PassThrough();
    const running = start(env, ['connect', 'guest1', 'org.example.a'], pipe);
    pipe.write('question');
    const guest = promisify(execFile)('/bin/sh', ['-c', `head -c 8 '${device}'; printf answer > '${device}'`]);
    expect((await guest).stdout).toBe('question');
    await until('the answer is there', () => running.out.text === 'answer');
    expect((await xc('status', 'guest1', 'org.example.a')).out).toMatch(
      /^ {2}traffic +6 bytes from the guest, 8 bytes to it$/m,
    );

    expect(await xc('detach', 'guest1', 'org.example.a')).toMatchObject({ code: 0, err: '' });
    expect(await running.done).toBe(0);
    expect((await dump()).sort()).toEqual(before.sort());
    await until('the link is gone', () => !existsSync(device));
  }, 30_000);

  it('seven channels attached at once all connect, each on a line of its own', async () => {
    const names = Array.from({ length: 7 }, (_, index) => `c${index}`);
    const results = await Promise.all(names.map((name) => xc('attach', 'guest2', name, '--wait', '15')));
    expect(results.map(({ code }) => code)).toEqual(names.map(() => 0));
    const devices = join(root, 'dom2/dev/xenchannel');
    await until('the guest has all links', () => existsSync(devices) && readdirSync(devices).length === 7, 15_000);
    expect((await xc('attach', 'guest2', 'c7')).err).toContain('[device-ids-exhausted]');
    const guestEnv = { XENSTORED_PATH: join(root, 'dom2/dev/xen/xenbus') };
    const listed = JSON.parse((await cli(guestEnv, 'guest', 'list', '--root', join(root, 'dom2'), '--json')).out) as {
      channels: { name: string; tty: string; problem?: unknown }[];
    };
    expect(listed.channels.map(({ name }) => name).sort()).toEqual(names);
    expect(new Set(listed.channels.map(({ tty }) => tty)).size).toBe(7);
    const detached = await Promise.all(names.map((name) => xc('detach', 'guest2', name)));
    expect(detached.map(({ code }) => code)).toEqual(names.map(() => 0));
    expect((await xc('list')).out).toBe('no channels\n');
  }, 60_000);

  it('the name and the path of a channel are free again when its detach returns', async () => {
    const path = join(root, 'run/mine.sock');
    for (let round = 0; round < 5; round++) {
      expect(await xc('attach', 'guest1', 'again', '--path', path, '--wait', '10')).toMatchObject({ code: 0, err: '' });
      await until('the daemon listens', () => existsSync(path));
      expect(await xc('detach', 'guest1', 'again')).toMatchObject({ code: 0, err: '' });
    }
  }, 60_000);
});

describe('the real daemon', () => {
  it('says that this is no Xen, and exits with 8', async () => {
    const { code, err } = await cli({ ...env, XENCHANNEL_RUNDIR: join(root, 'other') }, 'daemon');
    expect(code).toBe(8);
    expect(err).toMatch(/\[(not-on-xen|module-missing)\]\n$/);
    expect(existsSync(join(root, 'other'))).toBe(false);
  });
});
