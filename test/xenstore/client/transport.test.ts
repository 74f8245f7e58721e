import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  candidatePaths,
  Op,
  permissions,
  type Transport,
  type TransportHandlers,
  XenstoreClient,
} from '../../../xenstore/index.js';
import { type Answer, ScriptedPeer, stringsOf } from '../../support/scripted-peer.js';

const cleanUp: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'xenstore-transport-'));
  cleanUp.push(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

describe('candidatePaths', () => {
  it.each<[Record<string, string>, readonly string[]]>([
    [{}, ['/run/xenstored/socket', '/var/run/xenstored/socket', '/dev/xen/xenbus']],
    [{ XENSTORED_RUNDIR: '/tmp/x' }, ['/tmp/x/socket', '/dev/xen/xenbus']],
    [{ XENSTORED_PATH: '/tmp/y' }, ['/tmp/y']],
    [{ XENSTORED_PATH: '/tmp/y', XENSTORED_RUNDIR: '/tmp/x' }, ['/tmp/y']],
    [{ XENSTORED_PATH: '' }, ['/run/xenstored/socket', '/var/run/xenstored/socket', '/dev/xen/xenbus']],
  ])('with the environment %j are %j', (env, paths) => expect(candidatePaths(env)).toEqual(paths));
});

describe('XenstoreClient.connect', () => {
  it('finds the socket by XENSTORED_PATH and by XENSTORED_RUNDIR', async () => {
    const peer = await ScriptedPeer.start((request, connection) => connection.reply(request, 'v'));
    cleanUp.push(() => peer.stop());
    for (const env of [{ XENSTORED_PATH: peer.path }, { XENSTORED_RUNDIR: peer.directory }]) {
      const client = await XenstoreClient.connect({ env });
      expect([client.path, client.connected, await client.readText('/a')]).toEqual([peer.path, true, 'v']);
      await client.close();
    }
  });

  it('prefers the path it is given to the environment', async () => {
    const peer = await ScriptedPeer.start();
    cleanUp.push(() => peer.stop());
    const client = await XenstoreClient.connect({ path: peer.path, env: { XENSTORED_PATH: '/nowhere' } });
    expect(client.path).toBe(peer.path);
    await client.close();
  });

  it('names the path and the errno when nothing is there', async () => {
    await expect(XenstoreClient.connect({ path: '/nowhere/socket' })).rejects.toMatchObject({
      code: 'unreachable',
      message: 'no xenstore daemon answers at /nowhere/socket (ENOENT)',
    });
  });

  it('names each path it tried', async () => {
    await expect(XenstoreClient.connect({ env: { XENSTORED_RUNDIR: '/nowhere' } })).rejects.toThrow(
      'no xenstore daemon answers at /nowhere/socket (ENOENT), /dev/xen/xenbus (ENOENT)',
    );
  });

  it('waits its turn when more clients come at once than the daemon lets queue', async () => {
    const peer = await ScriptedPeer.start((request, connection) => connection.reply(request, 'v'));
    cleanUp.push(() => peer.stop());
    const clients = await Promise.all(Array.from({ length: 20 }, () => XenstoreClient.connect({ path: peer.path })));
    for (const client of clients) expect(await client.readText('/a')).toBe('v');
    await Promise.all(clients.map((client) => client.close()));
  });

  it('says that nobody listens on a stale socket', async () => {
    const peer = await ScriptedPeer.start();
    cleanUp.push(() => peer.stop());
    const path = join(temporaryDirectory(), 'stale');
    const listener = spawn('socat', [`UNIX-LISTEN:${path},unlink-close=0`, '/dev/null']);
    cleanUp.push(() => void listener.kill('SIGKILL'));
    await until(() => existsSync(path));
    await ended(listener, 'SIGKILL');
    await expect(XenstoreClient.connect({ path })).rejects.toThrow(
      `no xenstore daemon answers at ${path} (ECONNREFUSED)`,
    );
  });

  it('says that a regular file is no xenstore', async () => {
    const path = join(temporaryDirectory(), 'file');
    writeFileSync(path, '');
    await expect(XenstoreClient.connect({ path })).rejects.toThrow(`no xenstore daemon answers at ${path} (ENOTSOCK)`);
  });

  it.each(['EACCES', 'EPERM'])('tells a missing permission (%s) from a missing daemon', async (code) => {
    const path = await pty();
    const openDevice = () => Promise.reject(Object.assign(new Error(`${code}: refused`), { code }));
    await expect(XenstoreClient.connect({ path, openDevice })).rejects.toMatchObject({
      code: 'not-permitted',
      message: `no permission to open the xenstore at ${path} (${code}): this usually needs root`,
      cause: { code },
    });
  });

  it('refuses a socket path that the kernel would cut', async () => {
    // Moved there, as nobody can bind to it either.
    const directory = join(temporaryDirectory(), 'd'.repeat(100));
    const peer = await ScriptedPeer.start();
    cleanUp.push(() => peer.stop());
    mkdirSync(directory);
    renameSync(peer.path, join(directory, 's'));
    await expect(XenstoreClient.connect({ path: join(directory, 's') })).rejects.toThrow(/ENAMETOOLONG/);
  });

  it('ends with the reason of its signal', async () => {
    const peer = await ScriptedPeer.start();
    cleanUp.push(() => peer.stop());
    const abort = new AbortController();
    abort.abort(new Error('never mind'));
    await expect(XenstoreClient.connect({ path: peer.path, signal: abort.signal })).rejects.toThrow('never mind');
    const during = new AbortController();
    const connecting = XenstoreClient.connect({ path: peer.path, signal: during.signal });
    during.abort(new Error('too late'));
    await expect(connecting).rejects.toThrow('too late');
  });
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.kill(signal);
  });
}

/**
 * A character device to talk to: the slave of a raw PTY whose other end is a daemon's socket. To stat, open, read and
 * write it is like /dev/xen/xenbus, except that it takes any number of messages at once.
 */
async function pty(socketPath?: string): Promise<string> {
  const link = join(temporaryDirectory(), 'xenbus');
  const other = socketPath === undefined ? 'EXEC:cat' : `UNIX-CONNECT:${socketPath}`;
  const child = spawn('socat', [`PTY,link=${link},raw,echo=0`, other], { stdio: 'ignore' });
  cleanUp.push(() => ended(child, 'SIGKILL'));
  await until(() => existsSync(link));
  return link;
}

async function connectDevice(answer?: Answer) {
  const peer = await ScriptedPeer.start(answer);
  cleanUp.push(() => peer.stop());
  const path = await pty(peer.path);
  const client = await XenstoreClient.connect({ path, reconnect: false });
  const daemon = await peer.accept();
  cleanUp.push(() => {
    // The transport ends its blocked read with a request.
    daemon.answerWith((request, connection) => connection.reply(request));
    return client.close();
  });
  return { client, daemon };
}

describe('XenstoreClient over a character device', () => {
  it('asks one request at a time and gets all the answers', async () => {
    let unanswered = 0;
    let most = 0;
    const { client } = await connectDevice((request, connection) => {
      unanswered++;
      most = Math.max(most, unanswered);
      setImmediate(() => {
        unanswered--;
        connection.reply(request, `${stringsOf(request)[0]}=value`);
      });
    });
    const paths = Array.from({ length: 30 }, (_, i) => `/${i}`);
    expect(await Promise.all(paths.map((path) => client.readText(path)))).toEqual(paths.map((path) => `${path}=value`));
    expect(most).toBe(1);
  });

  it('delivers watch events, also before the OK', async () => {
    const seen: string[] = [];
    const { client, daemon } = await connectDevice();
    const watching = client.watch('device/console', (path) => seen.push(path));
    const request = await daemon.next();
    daemon.event('device/console', stringsOf(request)[1] as string);
    daemon.reply(request);
    await watching;
    daemon.event('device/console/1', stringsOf(request)[1] as string);
    await until(() => seen.length === 2);
    expect(seen).toEqual(['device/console', 'device/console/1']);
  });

  it('limits payloads to what fits into the kernel with the header', async () => {
    const { client } = await connectDevice((request, connection) => connection.reply(request));
    await client.write('/a', 'x'.repeat(4077));
    await expect(client.write('/a', 'x'.repeat(4078))).rejects.toMatchObject({
      code: 'E2BIG',
      message: expect.stringMatching(/4081 bytes, limit 4080/),
    });
  });

  it('refuses to reset the watches of the kernel', async () => {
    const { client } = await connectDevice();
    await expect(client.resetWatches()).rejects.toMatchObject({ code: 'EPERM' });
  });

  it('may name DOMID_ANY, which only harms over a socket', async () => {
    const { client, daemon } = await connectDevice();
    const running = client.setPermissions('/a', permissions('n5', 'r32757'));
    const request = await daemon.next();
    expect(stringsOf(request)).toEqual(['/a', 'n5', 'r32757']);
    daemon.reply(request);
    await running;
  });

  it('closes although a read is blocked, by asking for something that answers', async () => {
    const { client, daemon } = await connectDevice();
    daemon.answerWith((request, connection) => {
      expect(request.type).toBe(Op.Unwatch);
      connection.reply(request);
    });
    await client.close();
  });

  it('notices that the other side is gone', async () => {
    const { client, daemon } = await connectDevice();
    const running = client.read('/a');
    running.catch(() => {});
    await daemon.next();
    daemon.end();
    await expect(running).rejects.toMatchObject({ code: 'disconnected' });
  });
});

describe('XenstoreClient over a device opened by its caller', () => {
  /** A kernel that refuses by write() error. */
  class RefusingTransport implements Transport {
    readonly kind = 'device';
    readonly writes: Buffer[] = [];
    handlers: TransportHandlers | undefined;

    start(handlers: TransportHandlers): void {
      this.handlers = handlers;
    }

    write(bytes: Buffer): boolean {
      this.writes.push(bytes);
      return true;
    }

    async close(): Promise<void> {}
  }

  async function connectTo(transport: RefusingTransport): Promise<XenstoreClient> {
    const client = await XenstoreClient.connect({ path: await pty(), openDevice: () => transport, reconnect: false });
    cleanUp.push(() => client.close());
    return client;
  }

  it('turns a refused write into the error of its request and goes on', async () => {
    const transport = new RefusingTransport();
    const client = await connectTo(transport);
    const watching = client.watch('/a', () => {});
    const reading = client.read('/b');
    reading.catch(() => {});
    await until(() => transport.writes.length === 1);
    transport.handlers?.onRefused('EEXIST');
    await expect(watching).rejects.toMatchObject({ code: 'EEXIST', path: '/a' });
    await until(() => transport.writes.length === 2);
    transport.handlers?.onRefused('EIO');
    await expect(reading).rejects.toMatchObject({ code: 'EIO', path: '/b' });
  });

  it('holds back while the transport is full', async () => {
    const transport = new RefusingTransport();
    transport.write = (bytes) => {
      transport.writes.push(bytes);
      return false;
    };
    const client = await connectTo(transport);
    const running = [client.read('/a'), client.read('/b')];
    for (const one of running) one.catch(() => {});
    await until(() => transport.writes.length === 1);
    transport.handlers?.onRefused('EIO');
    await new Promise((resolve) => setImmediate(resolve));
    expect(transport.writes).toHaveLength(1);
    transport.handlers?.onWritable();
    await until(() => transport.writes.length === 2);
  });
});
