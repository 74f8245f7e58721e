import { afterEach, describe, expect, it } from 'vitest';
import { MAX_QUEUED_EVENTS } from '../../../xenstore/client/watches.js';
import { type ConnectOptions, Op, type Watch, XenstoreClient } from '../../../xenstore/index.js';
import { type PeerConnection, ScriptedPeer, stringsOf } from '../../support/scripted-peer.js';

const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

async function connect(options: ConnectOptions = {}) {
  const peer = await ScriptedPeer.start();
  cleanUp.push(() => peer.stop());
  const client = await XenstoreClient.connect({ path: peer.path, reconnect: false, ...options });
  cleanUp.push(() => client.close());
  return { peer, client, daemon: await peer.accept() };
}

/** Registers a watch with a daemon that answers OK and, as daemons do, one event. */
async function watched(client: XenstoreClient, daemon: PeerConnection, path: string, listener: (path: string) => void) {
  const watching = client.watch(path, listener);
  const request = await daemon.next();
  const token = stringsOf(request)[1] as string;
  daemon.reply(request);
  return { watch: await watching, token };
}

/** Sends what the daemon says, and returns when the client has taken it all in and told its listeners. */
async function settle(client: XenstoreClient, daemon: PeerConnection): Promise<void> {
  const read = client.read('/settle');
  daemon.reply(await daemon.next(), '');
  await read;
  await new Promise((resolve) => setImmediate(resolve));
}

describe('XenstoreClient.watch', () => {
  it('sends path and a token of its own for each watch', async () => {
    const { client, daemon } = await connect();
    const watching = [client.watch('/a', () => {}), client.watch('/a', () => {})];
    const requests = [await daemon.next(), await daemon.next()];
    expect(requests.map(({ type }) => type)).toEqual([Op.Watch, Op.Watch]);
    const [first, second] = requests.map(stringsOf);
    expect([first?.[0], second?.[0]]).toEqual(['/a', '/a']);
    expect(first?.[1]).not.toBe(second?.[1]);
    for (const request of requests) daemon.reply(request);
    expect((await Promise.all(watching)).map(({ path }) => path)).toEqual(['/a', '/a']);
  });

  it('tells each listener the paths of its own token', async () => {
    const { client, daemon } = await connect();
    const seen: string[] = [];
    const one = await watched(client, daemon, '/a', (path) => seen.push(`one ${path}`));
    const two = await watched(client, daemon, 'b', (path) => seen.push(`two ${path}`));
    daemon.event('/a/x', one.token);
    daemon.event('b/y', two.token);
    daemon.event('/a/z', one.token);
    await settle(client, daemon);
    expect(seen.sort()).toEqual(['one /a/x', 'one /a/z', 'two b/y']);
  });

  it.each(['@introduceDomain', '@releaseDomain'])('watches the special path %s', async (path) => {
    const { client, daemon } = await connect();
    const seen: string[] = [];
    const { token } = await watched(client, daemon, path, (p) => seen.push(p));
    daemon.event(path, token);
    await settle(client, daemon);
    expect(seen).toEqual([path]);
  });

  it('keeps an event that comes before the OK until the watch is handed over', async () => {
    const { client, daemon } = await connect();
    const seen: string[] = [];
    let watch: Watch | undefined;
    const watching = client.watch('/a', (path) => {
      expect(watch).toBeDefined();
      seen.push(path);
    });
    const request = await daemon.next();
    daemon.event('/a', stringsOf(request)[1] as string);
    while (client.counters.watchEvents.received === 0) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen).toEqual([]);
    daemon.reply(request);
    watch = await watching;
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen).toEqual(['/a']);
  });

  it('hands the watch over before its first event although both came in one chunk', async () => {
    const { client, daemon } = await connect();
    const stopped = new Promise<void>((resolve) => {
      const watching = client.watch('/a', () => {
        void watching.then((watch) => watch.stop()).then(resolve);
      });
      void daemon.next().then((request) => {
        daemon.socket.cork();
        daemon.reply(request);
        daemon.event('/a', stringsOf(request)[1] as string);
        daemon.socket.uncork();
      });
    });
    const unwatch = await daemon.next();
    expect(unwatch.type).toBe(Op.Unwatch);
    daemon.reply(unwatch);
    await stopped;
  });

  it('throws what the daemon refuses with', async () => {
    const { client, daemon } = await connect();
    const watching = client.watch('/a', () => {});
    daemon.error(await daemon.next(), 'ENOSPC');
    await expect(watching).rejects.toMatchObject({ code: 'ENOSPC', path: '/a' });
  });

  it('reports a path once however often it changed meanwhile, and counts', async () => {
    const { client, daemon } = await connect();
    const seen: string[] = [];
    const { token } = await watched(client, daemon, '/a', (path) => seen.push(path));
    daemon.socket.cork();
    for (let i = 0; i < 5; i++) daemon.event('/a/x', token);
    daemon.event('/a/y', token);
    daemon.socket.uncork();
    await settle(client, daemon);
    expect(seen).toEqual(['/a/x', '/a/y']);
    expect(client.counters.watchEvents).toMatchObject({ received: 6, coalesced: 4, overflowed: 0 });
  });

  it('replaces too many different paths by the watched path', async () => {
    const { client, daemon } = await connect();
    const seen: string[] = [];
    const watching = client.watch('/a', (path) => seen.push(path));
    const request = await daemon.next();
    // Unconfirmed, so that nothing is delivered in between.
    for (let i = 0; i <= MAX_QUEUED_EVENTS; i++) daemon.event(`/a/${i}`, stringsOf(request)[1] as string);
    daemon.reply(request);
    await watching;
    await settle(client, daemon);
    expect(seen).toEqual(['/a', `/a/${MAX_QUEUED_EVENTS}`]);
    expect(client.counters.watchEvents.overflowed).toBe(1);
  });

  it.each<[string, () => void]>([
    [
      'throws',
      () => {
        throw new Error('listener bug');
      },
    ],
    ['rejects', async () => Promise.reject(new Error('listener bug'))],
  ])('goes on when a listener %s, and reports it', async (_how, fail) => {
    const reports: string[] = [];
    const { client, daemon } = await connect({
      onListenerError: (error, path) => reports.push(`${path}: ${String(error)}`),
    });
    const seen: string[] = [];
    const { token } = await watched(client, daemon, '/a', (path) => {
      seen.push(path);
      return fail();
    });
    daemon.event('/a/1', token);
    daemon.event('/a/2', token);
    await settle(client, daemon);
    expect(seen).toEqual(['/a/1', '/a/2']);
    expect(reports).toEqual(['/a/1: Error: listener bug', '/a/2: Error: listener bug']);
    expect(client.counters.watchEvents.listenerErrors).toBe(2);
  });
});

describe('Watch.stop', () => {
  it('delivers nothing after the call, not even what has arrived already', async () => {
    const { client, daemon } = await connect();
    const seen: string[] = [];
    const { watch, token } = await watched(client, daemon, '/a', (path) => {
      seen.push(path);
      void watch.stop();
    });
    daemon.socket.cork();
    daemon.event('/a/1', token);
    daemon.event('/a/2', token);
    daemon.socket.uncork();
    const unwatch = await daemon.next();
    expect([unwatch.type, ...stringsOf(unwatch)]).toEqual([Op.Unwatch, '/a', token]);
    daemon.event('/a/3', token);
    daemon.reply(unwatch);
    await settle(client, daemon);
    expect(seen).toEqual(['/a/1']);
    expect(client.counters.watchEvents.ignored).toBe(1);
  });

  it('resolves when the daemon has confirmed, asks once only, and takes ENOENT for done', async () => {
    const { client, daemon } = await connect();
    const { watch } = await watched(client, daemon, '/a', () => {});
    const stopping = [watch.stop(), watch.stop()];
    daemon.error(await daemon.next(), 'ENOENT');
    await Promise.all(stopping);
    await watch.stop();
    expect(daemon.waiting).toBe(0);
  });

  it('resolves after the end of the client', async () => {
    const { client, daemon } = await connect();
    const { watch } = await watched(client, daemon, '/a', () => {});
    await client.close();
    await watch.stop();
  });
});

describe('XenstoreClient.resetWatches', () => {
  it('silences every listener and ends what waits', async () => {
    const { client, daemon } = await connect();
    const seen: string[] = [];
    const { watch, token } = await watched(client, daemon, '/a', (path) => seen.push(path));
    const resetting = client.resetWatches();
    const request = await daemon.next();
    daemon.event('/a/late', token);
    daemon.reply(request);
    await resetting;
    await settle(client, daemon);
    expect(seen).toEqual([]);
    await watch.stop();
    expect(daemon.waiting).toBe(0);
  });
});
