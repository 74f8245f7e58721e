import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';
import { type CliRun, start } from './harness.js';

let directory: string;
let socket: string;
beforeEach(() => {
  directory = temporaryDirectory();
  socket = join(directory, 'xs');
});

async function xenstored(...options: string[]): Promise<CliRun> {
  const running = start({}, ['xenstored', '--socket', socket, ...options]);
  onTestFinished(async () => {
    running.interrupt();
    await running.done;
  });
  await until('it is ready', () => running.out.text.includes('ready'));
  return running;
}

/** A genuine utility; its output. */
async function tool(path: string, name: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(`xenstore-${name}`, args, { env: { XENSTORED_PATH: path } });
  return stdout;
}

async function fail(...options: string[]): Promise<{ code: number; err: string }> {
  const { done, err } = start({}, ['xenstored', '--socket', socket, ...options]);
  return { code: await done, err: err.text };
}

describe('xenchannel xenstored', () => {
  it('saves the tree at its end and begins with it again, exactly', async () => {
    const [first, second] = [join(directory, 'a.json'), join(directory, 'b.json')];
    const before = await xenstored('--dump', first);
    await tool(socket, 'write', '/b', 'text', '/a/bin', '\\x00\\xff\\n"\\\\', '/a/empty', '');
    await tool(socket, 'chmod', '/a/bin', 'n0', 'b0', 'r0');
    const shown = await tool(socket, 'ls', '-fp');
    before.interrupt();
    expect(await before.done).toBe(0);
    expect(existsSync(socket)).toBe(false);

    const after = await xenstored('--load', first, '--dump', second);
    expect(await tool(socket, 'ls', '-fp')).toBe(shown);
    expect(await tool(socket, 'list', '/')).toBe('tool\nb\na\n');
    after.interrupt();
    expect(await after.done).toBe(0);
    expect(readFileSync(second, 'utf8')).toBe(readFileSync(first, 'utf8'));
  });

  it('keeps what a domain was allowed over a dump, and nothing that a dead one was', async () => {
    const file = join(directory, 'a.json');
    const before = await xenstored('--dump', file, '--domain', '5');
    await tool(socket, 'write', '/for5', 'five', '/for6', 'six');
    await tool(socket, 'chmod', '/for5', 'n0', 'r5');
    await tool(socket, 'chmod', '/for6', 'n0', 'r6');
    before.interrupt();
    await before.done;
    await xenstored('--load', file, '--domain', '5', '--domain', '6');
    expect(await tool(`${socket}-dom5`, 'read', '/for5')).toBe('five\n');
    await expect(tool(`${socket}-dom6`, 'read', '/for6')).rejects.toThrow("couldn't read path /for6");
  });

  it('saves the tree whenever it gets SIGUSR1', async () => {
    const file = join(directory, 'tree.json');
    const daemon = await xenstored('--dump', file);
    await tool(socket, 'write', '/a', '1');
    daemon.poke();
    expect(JSON.parse(readFileSync(file, 'utf8')).nodes).toContainEqual({
      path: '/a',
      value: '1',
      permissions: ['n0'],
    });
    await tool(socket, 'write', '/a', '2');
    daemon.poke();
    expect(readFileSync(file, 'utf8')).toContain('{"path":"/a","value":"2"');
  });

  it('opens a socket with the rights of each domain, and says where', async () => {
    const daemon = await xenstored('--domain', '3', '--domain', '7');
    expect(daemon.out.text).toContain(`domain 3: XENSTORED_PATH=${socket}-dom3\n`);
    await tool(socket, 'write', '/local/domain/7', '');
    await tool(socket, 'chmod', '/local/domain/7', 'n7');
    await tool(`${socket}-dom7`, 'write', 'data', 'mine');
    expect(await tool(socket, 'ls', '-fp', '/local/domain/7')).toBe('/local/domain/7/data = "mine"   (n7)\n');
    await expect(tool(`${socket}-dom3`, 'write', '/local/domain/7/data', 'x')).rejects.toThrow();
  });

  it('replaces the socket of a daemon that died, and refuses that of one which lives', async () => {
    const dead = await promisify(execFile)(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`,
    ]).catch((error) => error);
    expect(dead.signal).toBe('SIGKILL');
    expect(existsSync(socket)).toBe(true);
    await xenstored();
    await tool(socket, 'write', '/a', 'b');
    expect(await fail()).toEqual({
      code: 4,
      err: `xenchannel: another xenstore daemon serves ${socket} [path-in-use]\n`,
    });
    expect(await tool(socket, 'read', '/a')).toBe('b\n');
  });

  it('traces requests and events for people', async () => {
    const daemon = await xenstored('--trace');
    await tool(socket, 'write', '/a', 'b');
    await expect(tool(socket, 'read', '/nope')).rejects.toThrow();
    const lines = daemon.err.text.trimEnd().split('\n');
    expect(lines.map((line) => line.replace(/^\d\d:\d\d:\d\d\.\d{3} /, '').replace(/\d+us$/, 'Nus'))).toEqual(
      expect.arrayContaining(['#1 d0 CONNECT', '#1 d0 WRITE /a OK Nus', '#2 d0 READ /nope ENOENT Nus']),
    );
  });

  it('traces in JSON into a file, with what a client sent made harmless', async () => {
    const file = join(directory, 'trace');
    const daemon = await xenstored('--trace', file, '--trace-format', 'json');
    await tool(socket, 'write', '/a', 'b', '/c', 'd');
    const raw = connect(socket);
    const request = Buffer.from('\x02\0\0\0\x07\0\0\0\0\0\0\0\x05\0\0\0/\x1b[m\0', 'latin1');
    raw.write(request);
    await new Promise((answered) => raw.once('data', answered));
    raw.destroy();
    daemon.interrupt();
    await daemon.done;
    const records = readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(records.map(({ op, transaction, path, result }) => [op, transaction, path, result])).toEqual([
      ['CONNECT', 0, '', ''],
      ['TRANSACTION_START', 0, '', 'OK'],
      ['WRITE', 1, '/a', 'OK'],
      ['WRITE', 1, '/c', 'OK'],
      ['TRANSACTION_END', 1, 'T', 'OK'],
      ['DISCONNECT', 0, '', ''],
      ['CONNECT', 0, '', ''],
      ['READ', 0, '/\x1b[m', 'EINVAL'],
      ['DISCONNECT', 0, '', ''],
    ]);
    for (const record of records) expect(record).toMatchObject({ at: expect.stringMatching(/^\d{4}-.*Z$/), domid: 0 });
    expect(records[2]).toMatchObject({ tookUs: expect.any(Number) });
    expect(readFileSync(file, 'utf8')).not.toContain('\x1b');
  });

  it.each([
    ['no JSON', 'nonsense', 'is not valid JSON'],
    ['no dump', '[]', 'it is no object'],
    ['another version', '{"version":2}', 'its version is 2, not 1'],
    ['no special nodes', '{"version":1,"nodes":[]}', "'@introduceDomain': its permissions are missing"],
    [
      'no root',
      '{"version":1,"nodes":[],"special":{"@introduceDomain":["n0"],"@releaseDomain":["n0"]}}',
      "'/': it is missing",
    ],
    [
      'a value that is no ASCII',
      '{"version":1,"nodes":[{"path":"/","value":"ä","permissions":["n0"]}]}',
      'written as base64',
    ],
    [
      'malformed base64',
      '{"version":1,"nodes":[{"path":"/","base64":"!","permissions":["n0"]}]}',
      'base64 value is malformed',
    ],
  ])('refuses a file with %s and says why', async (_what, text, why) => {
    const file = join(directory, 'tree.json');
    writeFileSync(file, text);
    const { code, err } = await fail('--load', file);
    expect(code).toBe(2);
    expect(err).toContain(why);
    expect(err).toContain('[usage-invalid]');
    expect(existsSync(socket)).toBe(false);
  });

  it('says at once that it will not be able to save the tree', async () => {
    const { code, err } = await fail('--dump', join(directory, 'absent/tree.json'));
    expect(code).toBe(8);
    expect(err).toContain('ENOENT');
  });
});
