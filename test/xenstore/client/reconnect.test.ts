import { afterEach, describe, expect, it } from 'vitest';
import { type ConnectOptions, Op, XenstoreClient, type XenstoreError } from '../../../xenstore/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { type Answer, type PeerConnection, ScriptedPeer, stringsOf } from '../../support/scripted-peer.js';

const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

/** Answers as a daemon would: reads give their path, a watch is confirmed and reports once. */
const benign: Answer = (request, connection) => {
  connection.reply(request, request.type === Op.Read ? (stringsOf(request)[0] as string) : 'OK\0');
  const [path = '', token = ''] = stringsOf(request);
  if (request.type === Op.Watch) connection.event(path, token);
};

async function connect(options: ConnectOptions = {}, answer: Answer | 'by hand' = benign) {
  const clock = new FakeClock();
  const peer = await ScriptedPeer.start(answer === 'by hand' ? undefined : answer);
  cleanUp.push(() => peer.stop());
  const log: string[] = [];
  const client = await XenstoreClient.connect({
    path: peer.path,
    clock,
    random: () => 0,
    replyTimeoutMs: 0,
    onDisconnect: ({ code }) => log.push(`lost: ${code}`),
    onReconnect: () => log.push('back'),
    ...options,
  });
  cleanUp.push(() => client.close());
  return { peer, clock, log, client, daemon: await peer.accept() };
}

const codeOf = (answer: Promise<unknown>): Promise<unknown> => answer.catch((error: XenstoreError) => error.code);

/** Awaits that the client has noticed the end of its connection. */
async function cut(client: XenstoreClient, daemon: PeerConnection): Promise<void> {
  daemon.end();
  await until(() => !client.connected);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

describe('a XenstoreClient whose connection broke', () => {
  it('connects again after the first delay', async () => {
    const { client, daemon, clock, log, peer } = await connect();
    await cut(client, daemon);
    expect(log).toEqual(['lost: disconnected']);
    clock.advance(49);
    expect(client.connected).toBe(false);
    clock.advance(1);
    await peer.accept();
    await until(() => client.connected);
    expect(log).toEqual(['lost: disconnected', 'back']);
    expect(await client.readText('/a')).toBe('/a');
    expect(client.counters.reconnects).toBe(1);
    expect(clock.pending).toBe(0);
  });

  it('doubles the delay up to its limit, shortened by chance', async () => {
    let random = 0;
    const delays: number[] = [];
    const clock = new FakeClock();
    const watchful = {
      now: () => clock.now(),
      after: (delayMs: number, fn: () => void) => {
        delays.push(delayMs);
        return clock.after(delayMs, fn);
      },
    };
    const { client, peer } = await connect({
      clock: watchful,
      random: () => random,
      reconnect: { firstDelayMs: 100, maxDelayMs: 450, holdMs: 1_000_000 },
    });
    await peer.vanish();
    await until(() => !client.connected);
    for (let tries = 2; tries <= 6; tries++) {
      if (tries === 6) random = 0.5;
      clock.advance(450);
      await until(() => delays.length === tries + 1);
    }
    expect(delays).toEqual([1_000_000, 100, 200, 400, 450, 450, 337.5]);
  });

  it('registers its watches again and calls each listener once with its path', async () => {
    const { client, daemon, clock, peer, log } = await connect();
    const seen: string[] = [];
    await client.watch('/one', (path) => seen.push(path));
    const gone = await client.watch('/gone', (path) => seen.push(path));
    await client.watch('two', (path) => seen.push(path));
    await gone.stop();
    await until(() => seen.length === 3);
    seen.length = 0;
    await cut(client, daemon);
    clock.advance(50);
    await peer.accept();
    await until(() => log.includes('back'));
    await client.read('/settle');
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen).toEqual(['/one', 'two']);
  });

  it('is back only when all watches are registered, and only then sends what waits', async () => {
    const { client, daemon, clock, peer, log } = await connect();
    await client.watch('/w', () => {});
    await cut(client, daemon);
    const reading = client.readText('/held');
    peer.answerWith(undefined);
    clock.advance(50);
    const again = await peer.accept();
    const rewatch = await again.next();
    expect(stringsOf(rewatch)[0]).toBe('/w');
    expect([log.includes('back'), client.connected, again.waiting]).toEqual([false, false, 0]);
    again.reply(rewatch);
    again.answerWith(benign);
    expect(await reading).toBe('/held');
    expect(log).toContain('back');
  });

  it('repeats interrupted reads, sends what was not sent, and reports interrupted writes', async () => {
    const { client, daemon, clock, peer } = await connect({}, 'by hand');
    const reading = client.readText('/read');
    const writing = codeOf(client.write('/written', 'x'));
    await daemon.next();
    await daemon.next();
    await cut(client, daemon);
    const later = client.write('/later', 'x');
    expect(await writing).toBe('disconnected');
    clock.advance(50);
    const again = await peer.accept();
    const [first, second] = [await again.next(), await again.next()];
    expect([stringsOf(first)[0], stringsOf(second)[0]]).toEqual(['/read', '/later']);
    again.reply(first, 'v');
    again.reply(second);
    expect(await reading).toBe('v');
    await later;
  });

  it('fails what waits longer than holdMs, and everything from then on until it is back', async () => {
    const { client, daemon, clock, peer } = await connect({ reconnect: { holdMs: 1000 } });
    await peer.vanish();
    await until(() => !client.connected);
    await daemon.closed;
    const held = [client.read('/a'), client.transaction(async () => 1), client.watch('/w', () => {})].map(codeOf);
    clock.advance(1000);
    expect(await Promise.all(held)).toEqual(['disconnected', 'disconnected', 'disconnected']);
    expect(await codeOf(client.read('/b'))).toBe('disconnected');
    await peer.listen();
    await reach(clock, client);
    expect(await client.readText('/c')).toBe('/c');
  });

  it('gives up for good after maxTries', async () => {
    const { client, clock, peer } = await connect({
      reconnect: { maxTries: 3, firstDelayMs: 10, maxDelayMs: 10, holdMs: 9999 },
    });
    await peer.vanish();
    await until(() => !client.connected);
    const reading = client.read('/a');
    const waiting = client.waitUntil(async () => undefined, { what: 'x', paths: ['/a'], timeoutMs: 99_999 });
    waiting.catch(() => {});
    const failed = codeOf(reading).then(() => true);
    let done = false;
    void failed.then(() => {
      done = true;
    });
    while (!done) {
      clock.advance(10);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await expect(reading).rejects.toThrow(/gave up reaching xenstored at .* after 3 tries/);
    await expect(waiting).rejects.toMatchObject({ code: 'disconnected' });
    expect(clock.pending).toBe(0);
  });

  it('tries again when a watch cannot be registered', async () => {
    let refuse = true;
    const { client, daemon, clock, peer, log } = await connect({}, (request, connection) => {
      if (request.type === Op.Watch && connection !== first && refuse) connection.error(request, 'ENOSPC');
      else benign(request, connection);
    });
    const first = daemon;
    await client.watch('/w', () => {});
    await cut(client, daemon);
    clock.advance(50);
    const refused = await peer.accept();
    await refused.closed;
    expect(log).not.toContain('back');
    refuse = false;
    await reach(clock, client);
    expect(log).toEqual(['lost: disconnected', 'back']);
  });

  it('keeps waitUntil going through an outage', async () => {
    let value: string | undefined;
    const { client, daemon, clock } = await connect({}, (request, connection) => {
      if (request.type !== Op.Read) benign(request, connection);
      else if (value === undefined) connection.error(request, 'ENOENT');
      else connection.reply(request, value);
    });
    // Time passes fast while `reach` waits for a real socket.
    const timeoutMs = 2 ** 31 - 1;
    const waiting = client.waitUntil((store) => store.readText('/a'), { what: 'a', paths: ['/a'], timeoutMs });
    await client.mkdir('/settle');
    await cut(client, daemon);
    value = 'changed during the outage';
    await reach(clock, client);
    expect(await waiting).toBe(value);
  });

  it('also starts and times out a waitUntil during an outage', async () => {
    const { client, clock, peer } = await connect();
    await peer.vanish();
    await until(() => !client.connected);
    const waiting = client.waitUntil((store) => store.readText('/a'), { what: 'a', paths: ['/a'], timeoutMs: 20_000 });
    const failed = codeOf(waiting);
    for (let ms = 0; ms < 20_000; ms += 1000) {
      clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await failed).toBe('timeout');
  });

  it('stops trying when it is closed', async () => {
    const { client, clock, peer } = await connect();
    await peer.vanish();
    await until(() => !client.connected);
    const held = codeOf(client.read('/a'));
    await client.close();
    expect(await held).toBe('closed');
    expect(clock.pending).toBe(0);
  });

  it('reconnects after a protocol error, too, but repeats nothing', async () => {
    const { client, daemon, clock, log } = await connect({}, 'by hand');
    const reading = codeOf(client.read('/a'));
    daemon.reply(await daemon.next(), '', Op.Write);
    expect(await reading).toBe('protocol');
    await reach(clock, client);
    expect(log).toEqual(['lost: protocol', 'back']);
  });

  it('does not start over with short delays when the new connection breaks at once', async () => {
    const { client, daemon, clock, peer } = await connect({ reconnect: { firstDelayMs: 100, maxDelayMs: 5000 } });
    await cut(client, daemon);
    clock.advance(100);
    await until(() => client.connected);
    await cut(client, await peer.accept());
    clock.advance(199);
    expect(client.connected).toBe(false);
    clock.advance(1);
    await until(() => client.connected);
    // Now it lasts.
    clock.advance(5000);
    await cut(client, await peer.accept());
    clock.advance(100);
    await until(() => client.connected);
  });
});

/** Lets time pass until the client is connected. */
async function reach(clock: FakeClock, client: XenstoreClient): Promise<void> {
  while (!client.connected) {
    clock.advance(100);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
