/** The other host ends, from attach to the guest: a terminal, a server elsewhere, a log. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { frontendPath, KEY } from '../../src/console/layout.js';
import { findHostEnd, openHostEnd } from '../../src/dom0/open-channel.js';
import type { MemoryTty } from '../../src/simulation/memory-tty.js';
import { formatPermission } from '../../xenstore/index.js';
import { DaemonHost } from '../support/daemon-host.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';

const TTY = `${frontendPath(1, 1)}/tty`;
const ttyOf = (host: DaemonHost): Promise<string | undefined> => host.store.tryReadText(TTY);

/** Waits until the guest can read that. */
function told(host: DaemonHost, tty: () => string): Promise<unknown> {
  return host.store.waitUntil(async (ops) => (await ops.tryReadText(TTY)) === tty(), {
    what: 'the guest is told',
    paths: [TTY],
    timeoutMs: 5000,
  });
}

/** Waits until the guest's program has read exactly that. */
async function heard(tty: MemoryTty, text: string): Promise<void> {
  let all = '';
  await until(`the guest has ${text}`, () => {
    const more = tty.receive();
    if (more !== 'end') all += more.toString();
    return all === text;
  });
}

describe('a channel with a terminal', () => {
  it('is a link to a raw PTY, which the guest is told and cannot change', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug({ connection: 'pty', mode: 0o600 });
    const target = readlinkSync(path);
    expect(target).toMatch(/^\/dev\/pts\/\d+$/);
    await told(host, () => target);
    expect((await host.store.getPermissions(TTY)).map(formatPermission)).toEqual(['n0', 'r1']);
    expect(lstatSync(target).mode & 0o777).toBe(0o600);
    expect(host.channel()).toMatchObject({ connection: 'pty', problems: [], chardev: { tty: target } });
  });

  it('carries bytes for a program that knows terminals only', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug({ connection: 'pty', speakFirst: true });
    tty.openLine();
    tty.send('said before anybody listened\n');
    const cat = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void cat.kill());
    let seen = '';
    cat.stdout.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await until('cat has it', () => seen === 'said before anybody listened\n');
    const echo = spawn('sh', ['-c', 'printf "to the guest" >"$1"', 'sh', path]);
    await once(echo, 'exit');
    await heard(tty, 'to the guest');
  });

  it('is opened by `connect` as any other', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug({ connection: 'pty' });
    tty.openLine();
    const end = await findHostEnd(host.store, { domain: '1', name: 'org.example.a' }, host.env);
    const stream = await openHostEnd(end);
    onTestFinished(() => void stream.destroy());
    let seen = '';
    stream.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
    });
    tty.send('hello ');
    await until('it came', () => seen === 'hello ');
    stream.write('and back');
    await heard(tty, 'and back');
    await until('the daemon sees a client', () => host.channel().hostOpen);
    stream.destroy();
    await until('the daemon sees it leave', () => !host.channel().hostOpen);
  });

  it('gets another PTY at the same path from the next daemon, and meanwhile the guest is told of none', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug({ connection: 'pty' });
    const first = readlinkSync(path);
    await told(host, () => first);
    await host.host.stopDaemon();
    expect(await ttyOf(host)).toBe('');
    expect(existsSync(path)).toBe(false);
    await host.host.startDaemon();
    await until('the link is there', () => host.channel().problems.length === 0 && existsSync(path));
    await told(host, () => readlinkSync(path));
    await host.host.crashDaemon();
    await host.host.startDaemon();
    await until('the link is there', () => host.channel().problems.length === 0 && existsSync(path));
    await told(host, () => readlinkSync(path));
  });

  it('tells nothing to a guest that has removed its frontend', async () => {
    const host = await DaemonHost.start();
    await host.plug({ connection: 'pty' });
    await told(host, () => String(host.channel().chardev['tty']));
    await host.store.rm(frontendPath(1, 1));
    await until('it is noticed', () => host.channel().frontendState === 'gone');
    await host.host.stopDaemon();
    expect(await host.store.tryReadText(`${frontendPath(1, 1)}/tty`)).toBeUndefined();
  });
});

describe('a channel that connects to a server', () => {
  async function serve(path: string): Promise<Socket[]> {
    const clients: Socket[] = [];
    const server = createServer((socket) => void clients.push(socket));
    server.listen(path);
    await once(server, 'listening');
    onTestFinished(() => {
      for (const client of clients) client.destroy();
      server.close();
    });
    return clients;
  }

  it('carries bytes both ways, and the server may come later', async () => {
    const host = await DaemonHost.start();
    const path = join(temporaryDirectory(), 'server');
    const { tty } = await host.plug({ connect: path, speakFirst: true });
    tty.openLine();
    tty.send('who is there? ');
    const clients = await serve(path);
    await until('the daemon has connected', () => clients.length === 1);
    let seen = '';
    clients[0]?.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await until('the server has it', () => seen === 'who is there? ');
    clients[0]?.write('the server');
    await heard(tty, 'the server');
    expect(host.channel()).toMatchObject({ path, hostOpen: true });
  });

  it('may share its server with another, and is not opened by `connect`', async () => {
    const host = await DaemonHost.start();
    const path = join(temporaryDirectory(), 'server');
    const clients = await serve(path);
    await host.plug({ connect: path });
    await host.plug({ connect: path, name: 'org.example.b' });
    await until('both are there', () => clients.length === 2);
    await expect(findHostEnd(host.store, { domain: '1', name: 'org.example.a' }, host.env)).rejects.toMatchObject({
      code: 'usage-invalid',
    });
  });
});

describe('a channel with a log', () => {
  it('writes what the guest says to the file, whether a client is there or not', async () => {
    const host = await DaemonHost.start();
    const log = join(temporaryDirectory(), 'channel.log');
    const { tty, path } = await host.plug({ log, logSize: 65536, logKeep: 2, logTimestamps: true });
    tty.openLine();
    tty.send('first line\n');
    const client = await host.client(path);
    await until('the client has it', () => client.received.toString() === 'first line\n');
    tty.send('second line\n');
    const LINE = /^\[\d{4}-\d\d-\d\dT[\d:.]+Z\] first line\n\[[^\]]+\] second line\n$/;
    await until('both are in the file', () => existsSync(log) && LINE.test(readFileSync(log, 'utf8')));
    await until('it is counted', () => host.channel().chardev['loggedBytes'] === 23);
  });

  it('is refused, and said to be, when a value in xenstore is none', async () => {
    const host = await DaemonHost.start();
    const { deviceId } = await host.plug({ log: '/tmp/x.log' });
    await host.host.stopDaemon();
    const backend = `/local/domain/0/backend/console/1/${deviceId}`;
    await host.store.write(`${backend}/${KEY.logKeep}`, '1000');
    await host.host.startDaemon();
    expect(host.status.refused).toMatchObject([{ deviceId, code: 'backend-malformed' }]);
  });
});
