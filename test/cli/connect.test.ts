import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseEscape } from '../../src/cli/options.js';
import { splitAtEscape } from '../../src/cli/terminal.js';
import { addDomain, addToolstackChannel } from '../dom0/host.js';
import { until } from '../support/until.js';
import { type CliHost, type CliRun, cli, FakeTerminal, start, startCliHost } from './harness.js';

let host: CliHost;
let server: Server;
let path: string;
let peers: Socket[];
let received: Buffer[];

beforeEach(async () => {
  host = await startCliHost();
  path = `${host.runDirectory}/channel.sock`;
  peers = [];
  received = [];
  server = createServer({ allowHalfOpen: true }, (socket) => {
    peers.push(socket);
    socket.on('data', (chunk) => received.push(chunk));
  });
  await new Promise<void>((listening) => server.listen(path, listening));
  await addDomain(host.store, 1, 'db1');
  await addToolstackChannel(host.store, 1, 1, 'a', path);
});
afterEach(async () => {
  for (const peer of peers) peer.destroy();
  server.close();
  await host.stop();
});

const connect = (stdin: PassThrough, ...options: string[]): CliRun =>
  start(host.env, ['connect', 'db1', 'a', ...options], stdin);
const bytesReceived = (): string => Buffer.concat(received).toString('latin1');

async function peer(): Promise<Socket> {
  await until('a client is connected', () => peers.length > 0);
  return peers[0] as Socket;
}

describe('xenchannel connect on a terminal', () => {
  it('says at the start how to leave, and leaves there', async () => {
    const terminal = new FakeTerminal();
    const running = connect(terminal);
    await peer();
    terminal.write('\x1d');
    expect(await running.done).toBe(0);
    expect(running.err.text).toBe('connected to channel "a" of domain 1 (db1); ^] leaves\r\n\nleft\n');
    expect(terminal.modes).toEqual([true, false]);
  });

  it('sends what stands before the escape in one read, and nothing behind it', async () => {
    const terminal = new FakeTerminal();
    const running = connect(terminal);
    const socket = await peer();
    terminal.write('pasted\x03text\x1dnever sent');
    expect(await running.done).toBe(0);
    await once(socket, 'end');
    expect(bytesReceived()).toBe('pasted\x03text');
  });

  it('passes every byte value both ways', async () => {
    const all = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const terminal = new FakeTerminal();
    const running = connect(terminal, '--escape', 'none');
    const socket = await peer();
    expect(running.err.text).toContain('no key leaves');
    terminal.write(all);
    socket.write(all);
    await until('both have all', () => received.length > 0 && running.out.chunks.length > 0);
    expect(Buffer.concat(received)).toEqual(all);
    expect(Buffer.concat(running.out.chunks)).toEqual(all);
    socket.end();
    expect(await running.done).toBe(0);
    expect(running.err.text).toContain('closed by the other side');
    expect(terminal.modes).toEqual([true, false]);
  });

  it('takes another escape character', async () => {
    const terminal = new FakeTerminal();
    const running = connect(terminal, '--escape', '^A');
    await peer();
    terminal.write('\x1dx\x01');
    expect(await running.done).toBe(0);
    await until('the bytes are there', () => received.length > 0);
    expect(bytesReceived()).toBe('\x1dx');
  });

  it('sends nothing with --read-only, and shows all', async () => {
    const terminal = new FakeTerminal();
    const running = connect(terminal, '--read-only');
    const socket = await peer();
    terminal.write('typed');
    socket.write('shown');
    await until('it is shown', () => running.out.text === 'shown');
    terminal.write('more\x1d');
    expect(await running.done).toBe(0);
    await once(socket.resume(), 'end');
    expect(bytesReceived()).toBe('');
    expect(running.err.text).toContain('read-only; ^] leaves');
  });

  it('restores the terminal when it is interrupted, and when the connection breaks', async () => {
    for (const end of ['signal', 'reset'] as const) {
      const terminal = new FakeTerminal();
      const running = connect(terminal);
      await until('a client is connected', () => peers.length > 0);
      const socket = peers.pop();
      if (end === 'signal') running.interrupt();
      else socket?.destroy();
      expect(await running.done).toBe(end === 'signal' ? 130 : 0);
      expect(terminal.modes).toEqual([true, false]);
    }
  });
});

describe('xenchannel connect on a pipe', () => {
  it('passes it through, closes its half at the end, and waits for the rest of the answer', async () => {
    const pipe = new PassThrough();
    const running = connect(pipe);
    const socket = await peer();
    pipe.end('question\x1d');
    await once(socket, 'end');
    expect(bytesReceived()).toBe('question\x1d');
    socket.end('answer');
    expect(await running.done).toBe(0);
    expect([running.out.text, running.err.text]).toEqual(['answer', '']);
  });

  it('ends when the peer closes', async () => {
    const running = connect(new PassThrough());
    (await peer()).end();
    expect(await running.done).toBe(0);
  });

  it.each([
    ['closes', (socket: Socket) => void socket.end()],
    ['is gone', (socket: Socket) => void socket.destroy()],
  ])('says so when the peer %s before it has taken all', async (_, leave) => {
    const pipe = new PassThrough();
    const running = connect(pipe);
    const socket = await peer();
    socket.pause();
    const block = Buffer.alloc(1024 * 1024, 'x');
    while (pipe.write(block)) await new Promise(setImmediate);
    leave(socket);
    expect(await running.done).toBe(8);
    expect(running.err.text).toBe(
      'xenchannel: channel "a" of domain 1 (db1) was closed by the other side before it had taken all of the input [channel-closed]\n',
    );
  });

  it('holds back its input while the channel does not take it', async () => {
    const pipe = new PassThrough();
    const running = connect(pipe);
    const socket = await peer();
    socket.pause();
    const block = Buffer.alloc(1024 * 1024, 'x');
    let accepted = 0;
    while (accepted < 64 && pipe.write(block)) {
      accepted++;
      await new Promise(setImmediate);
    }
    expect(accepted).toBeLessThan(10);
    socket.resume();
    pipe.end();
    await once(socket, 'end');
    expect(Buffer.concat(received)).toHaveLength((accepted + 1) * block.length);
    socket.end();
    expect(await running.done).toBe(0);
  });
});

describe('xenchannel connect is refused', () => {
  it('where nobody serves the socket', async () => {
    await new Promise((closed) => server.close(closed));
    expect(await cli(host.env, 'connect', 'db1', 'a')).toMatchObject({
      code: 8,
      err: `xenchannel: channel "a" of domain 1 (db1) cannot be opened (ENOENT): nobody serves ${path}: is the daemon running? [daemon-unreachable]\n`,
    });
  });

  it('for a pty channel', async () => {
    await addToolstackChannel(host.store, 1, 2, 'p');
    expect(await cli(host.env, 'connect', 'db1', 'p')).toMatchObject({
      code: 2,
      err: expect.stringContaining('is no socket'),
    });
  });

  it('where the socket may not be opened', async () => {
    if (process.getuid?.() === 0) {
      // Root may open anything: the sentence is all that can be tested.
      const { openHostEnd } = await import('../../src/dom0/open-channel.js');
      await expect(openHostEnd({ path: '/proc/1/nothing', label: 'x' })).rejects.toMatchObject({
        code: 'daemon-unreachable',
      });
      return;
    }
    await chmod(path, 0);
    expect((await cli(host.env, 'connect', 'db1', 'a')).code).toBe(5);
  });

  it.each(['x', '^', '^1', '', ']'])('with the escape character %j', async (text) => {
    const { code, err } = await cli(host.env, 'connect', 'db1', 'a', '--escape', text);
    expect([code, err]).toEqual([2, expect.stringContaining('[usage-invalid]')]);
  });
});

describe('the escape character', () => {
  it.each([
    ['^]', 0x1d],
    ['^A', 1],
    ['^a', 1],
    ['^@', 0],
    ['^?', 0x7f],
    ['none', 'none'],
  ])('%s is read as %s', (text, byte) => {
    expect(parseEscape(text)).toBe(byte);
  });

  it('is found wherever it stands', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const { before, left } = splitAtEscape(bytes, 0x1d);
        const at = [...bytes].indexOf(0x1d);
        expect(left).toBe(at >= 0);
        expect([...before]).toEqual([...bytes].slice(0, at < 0 ? bytes.length : at));
        expect(splitAtEscape(bytes, undefined)).toEqual({ before: bytes, left: false });
      }),
    );
  });
});
