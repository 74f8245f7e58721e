import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SocketIo } from '../../../src/sys/socket-io.js';
import { XenstoreEngine, XenstoreServer } from '../../../xenstore/index.js';
import { decodeAll, encodeRequest } from './conversation.js';

const run = promisify(execFile);

let directory: string;
let engine: XenstoreEngine;
let server: XenstoreServer;
let dom0: string;
let dom5: string;

const calls = new SocketIo();
afterAll(() => calls.close());

describe.each([
  ['by system calls past', calls],
  ['past', true],
  ['through', false],
] as const)('with sockets %s the streams of Node.js,', (_where, direct) => {
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'xenstore-server-'));
    engine = new XenstoreEngine();
    engine.introduceDomain(5);
    server = new XenstoreServer(engine, undefined, { direct });
    dom0 = join(directory, 'socket');
    dom5 = join(directory, 'xenbus-5');
    await server.listen(dom0);
    await server.listen(dom5, 5);
  });

  afterEach(async () => {
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** A genuine xenstore utility, as a client of `socket`. */
  async function tool(socket: string, name: string, ...args: string[]): Promise<string> {
    const { stdout } = await run(`xenstore-${name}`, args, { env: { ...process.env, XENSTORED_PATH: socket } });
    return stdout;
  }

  async function dial(socket: string): Promise<Socket> {
    const client = connect(socket);
    await once(client, 'connect');
    return client;
  }

  /** The replies to the requests, once as many have come. */
  async function ask(client: Socket, ...requests: string[]): Promise<string[]> {
    let bytes = Buffer.alloc(0);
    client.write(Buffer.concat(requests.map((request) => encodeRequest(request))));
    while (true) {
      const [chunk] = (await once(client, 'data')) as [Buffer];
      bytes = Buffer.concat([bytes, chunk]);
      const replies = decodeAll(bytes);
      if (replies.length >= requests.length) return replies;
    }
  }

  describe('the genuine xenstore utilities', () => {
    it('write, read, list, show and remove on the dom0 socket', async () => {
      await tool(dom0, 'write', '/a/b', 'hello', '/a/c', 'world');
      expect(await tool(dom0, 'read', '/a/b', '/a/c')).toBe('hello\nworld\n');
      expect(await tool(dom0, 'list', '/a')).toBe('b\nc\n');
      expect(await tool(dom0, 'ls', '-fp', '/a')).toBe('/a/b = "hello"   (n0)\n/a/c = "world"   (n0)\n');
      await tool(dom0, 'exists', '/a/b');
      await tool(dom0, 'rm', '/a/b');
      await expect(tool(dom0, 'exists', '/a/b')).rejects.toThrow();
      await expect(tool(dom0, 'read', '/a/b')).rejects.toThrow("couldn't read path /a/b");
    });

    it('show exact permissions after xenstore-chmod', async () => {
      await tool(dom0, 'write', '/a', 'x');
      await tool(dom0, 'chmod', '/a', 'n5', 'r0');
      expect(await tool(dom0, 'ls', '-fp', '/')).toContain('/a = "x"   (n5,r0)\n');
    });

    it('act as the domain on the domain’s socket', async () => {
      await tool(dom0, 'write', '/local/domain/5', '');
      await tool(dom0, 'chmod', '/local/domain/5', 'n5');
      await tool(dom5, 'write', 'data/x', 'mine');
      expect(await tool(dom0, 'read', '/local/domain/5/data/x')).toBe('mine\n');
      await expect(tool(dom5, 'write', '/tool/x', 'y')).rejects.toThrow();
      await expect(tool(dom5, 'read', '/tool')).rejects.toThrow();
    });

    it('list a directory of more than 4096 bytes', async () => {
      const names = Array.from({ length: 600 }, (_, n) => `a-long-child-name-${n}`);
      const client = await dial(dom0);
      await ask(client, ...names.map((name) => `MKDIR /d/${name}|`));
      client.destroy();
      expect((await tool(dom0, 'list', '/d')).trimEnd().split('\n')).toEqual(names);
    });

    it('watch', async () => {
      const watcher = spawn('xenstore-watch', ['-n', '2', '/a'], { env: { ...process.env, XENSTORED_PATH: dom0 } });
      const exited = once(watcher, 'exit');
      let seen = '';
      for await (const chunk of watcher.stdout) {
        seen += String(chunk);
        if (seen === '/a\n') await tool(dom0, 'write', '/a/b', '1');
      }
      await exited;
      expect(seen).toBe('/a\n/a/b\n');
    });
  });

  describe('the server', () => {
    it('makes sockets that only their owner can open', () => {
      expect(statSync(dom0).mode & 0o777).toBe(0o600);
      expect(statSync(dom5).mode & 0o777).toBe(0o600);
    });

    it('answers every request of a large pipeline in order', async () => {
      const client = await dial(dom0);
      const requests = Array.from({ length: 5000 }, (_, n) => (n % 2 ? `READ /p/${n - 1}|` : `WRITE /p/${n}|${n}`));
      const replies = await ask(client, ...requests);
      expect(replies).toEqual(Array.from({ length: 5000 }, (_, n) => (n % 2 ? `READ ${n - 1}` : 'WRITE OK|')));
      client.destroy();
    });

    it('replaces a socket that nobody serves', async () => {
      const stale = join(directory, 'stale');
      const other = createServer().listen(stale);
      await once(other, 'listening');
      // A crash leaves the socket behind; closing it properly would remove it.
      const kept = join(directory, 'kept');
      await run('ln', [stale, kept]);
      await new Promise((resolve) => other.close(resolve));
      await run('mv', [kept, stale]);
      await server.listen(stale);
      expect(await tool(stale, 'list', '/')).toBe('tool\n');
    });

    it('refuses a socket that another daemon serves, and leaves it working', async () => {
      const second = new XenstoreServer(new XenstoreEngine());
      await expect(second.listen(dom0)).rejects.toMatchObject({ code: 'EBUSY' });
      expect(await tool(dom0, 'list', '/')).toBe('tool\n');
    });

    it('refuses a path that is no socket, and leaves it alone', async () => {
      const file = join(directory, 'file');
      writeFileSync(file, 'precious');
      chmodSync(file, 0o640);
      await expect(server.listen(file)).rejects.toMatchObject({ code: 'EEXIST' });
      expect(statSync(file).size).toBe(8);
    });

    it('refuses a directory that does not exist', async () => {
      await expect(server.listen(join(directory, 'none', 'socket'))).rejects.toMatchObject({ code: 'EIO' });
    });

    it('removes its sockets and ends its clients when it is closed', async () => {
      const client = await dial(dom0);
      const ended = once(client, 'close');
      client.resume();
      await server.close();
      await ended;
      expect(existsSync(dom0)).toBe(false);
    });

    it('ends a domain’s connections when the domain is released, and refuses new ones', async () => {
      const client = await dial(dom5);
      client.resume();
      const ended = once(client, 'close');
      engine.releaseDomain(5);
      await ended;
      const late = await dial(dom5);
      late.resume();
      await once(late, 'close');
      expect(server.counters.refused).toBe(1);
      engine.introduceDomain(5);
      const next = await dial(dom5);
      expect(await ask(next, 'GET_DOMAIN_PATH 5|')).toEqual(['GET_DOMAIN_PATH /local/domain/5|']);
      next.destroy();
    });

    it('ends a client that announces more than 4096 bytes', async () => {
      const client = await dial(dom0);
      client.resume();
      const ended = once(client, 'close');
      client.write(Buffer.from('02000000010000000000000001100000', 'hex'));
      await ended;
    });

    it('forgets the watches of a client that went away', async () => {
      const client = await dial(dom5);
      await ask(client, 'WATCH x|t|');
      const closed = once(client, 'close');
      client.destroy();
      await closed;
      const admin = await dial(dom0);
      let report = '';
      do [report = ''] = await ask(admin, 'CONTROL quota|5|');
      while (!/watches +: +0\n/.test(report));
      admin.destroy();
    });

    it('stops reading from a domain that does not read its replies, and goes on when it does', async () => {
      await tool(dom0, 'write', '/big', 'x'.repeat(4000));
      await tool(dom0, 'chmod', '/big', 'r0');
      const client = connect(dom5);
      await once(client, 'connect');
      client.pause();
      const count = 2000;
      client.write(Buffer.concat(Array.from({ length: count }, () => encodeRequest('READ /big|'))));
      // Another client is served meanwhile.
      expect(await tool(dom0, 'list', '/tool')).toBe('xenstored\n');
      let received = 0;
      client.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (received === count * 4016) client.destroy();
      });
      const closed = once(client, 'close');
      client.resume();
      await closed;
      expect(received).toBe(count * 4016);
      expect(server.counters.overflowed).toBe(0);
    });

    it('ends a domain that watches and never reads, before its events fill the memory', async () => {
      await tool(dom0, 'write', '/w', '');
      await tool(dom0, 'chmod', '/w', 'r0');
      const watcher = await dial(dom5);
      const token = 't'.repeat(3000);
      await ask(watcher, `WATCH /w|${token}|`);
      watcher.pause();
      const writer = await dial(dom0);
      const closed = once(watcher, 'close');
      for (let round = 0; server.counters.overflowed === 0 && round < 5000; round++)
        await ask(writer, `WRITE /w/${round}|x`);
      watcher.resume();
      await closed;
      expect(server.counters.overflowed).toBe(1);
      writer.destroy();
    });
  });
});
