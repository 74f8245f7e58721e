import { afterEach, describe, expect, it } from 'vitest';
import { type Likeness, permissions, type XenstoreClient, XenstoreEngine } from '../../../xenstore/index.js';
import { type SimulatedStore, startStore } from '../../support/simulated-store.js';

let store: SimulatedStore | undefined;
afterEach(async () => {
  await store?.stop();
  store = undefined;
});

async function start(like: Likeness): Promise<SimulatedStore> {
  store = await startStore({ like });
  return store;
}

const LIKENESSES: readonly Likeness[] = ['xenstored-4.17', 'oxenstored'];

describe.each(LIKENESSES)('XenstoreClient with a daemon like %s', (like) => {
  it('reads back what it wrote', async () => {
    const { dom0 } = await start(like);
    await dom0.write('/tool/x/y', 'hällo');
    await dom0.write('/tool/x/bytes', Uint8Array.of(0, 255, 0));
    expect(await dom0.readText('/tool/x/y')).toBe('hällo');
    expect(await dom0.read('/tool/x/bytes')).toEqual(Buffer.of(0, 255, 0));
    expect((await dom0.directory('/tool/x')).sort()).toEqual(['bytes', 'y']);
    await dom0.rm('/tool/x');
    expect(await dom0.exists('/tool/x')).toBe(false);
    await expect(dom0.read('/tool/x/y')).rejects.toMatchObject({ code: 'ENOENT', path: '/tool/x/y' });
  });

  it('gives a guest its own rights and relative paths', async () => {
    const { dom0, asDomain } = await start(like);
    const guest = await asDomain(5);
    await dom0.write('/local/domain/5/name', 'web');
    await dom0.setPermissions('/local/domain/5', permissions('n0', 'r5'));
    await dom0.setPermissions('/local/domain/5/name', permissions('n0', 'r5'));
    await dom0.mkdir('/local/domain/5/data');
    await dom0.setPermissions('/local/domain/5/data', permissions('n5', 'r0'));
    expect(await guest.readText('name')).toBe('web');
    await guest.write('data/hello', '1');
    expect(await dom0.readText('/local/domain/5/data/hello')).toBe('1');
    await expect(guest.write('name', 'dom0')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(guest.introduce(6, 1n, 1)).rejects.toMatchObject({ code: 'EACCES' });
    expect(await dom0.isDomainIntroduced(5)).toBe(true);
    expect(await dom0.isDomainIntroduced(6)).toBe(false);
    expect(await guest.getDomainPath(5)).toBe('/local/domain/5');
  });

  it('lists a directory of more than 4096 bytes', async () => {
    const { dom0 } = await start(like);
    const names = Array.from({ length: 700 }, (_, i) => `a-rather-long-name-${i}`);
    await Promise.all(names.map((name) => dom0.mkdir(`/tool/long/${name}`)));
    expect((await dom0.directory('/tool/long')).sort()).toEqual([...names].sort());
  });

  it('lets writers who conflict all win in the end', async () => {
    const { dom0, connect } = await start(like);
    await dom0.write('/tool/counter', '0');
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect()));
    const increment = (client: XenstoreClient): Promise<void> =>
      client.transaction(async (tx) =>
        tx.write('/tool/counter', String(Number(await tx.readText('/tool/counter')) + 1)),
      );
    await Promise.all(clients.flatMap((client) => Array.from({ length: 10 }, () => increment(client))));
    expect(await dom0.readText('/tool/counter')).toBe('40');
  });

  it('hides what is in a transaction until it is committed, and forgets what is aborted', async () => {
    const { dom0 } = await start(like);
    await dom0.transaction(async (tx) => {
      await tx.write('/tool/t', '1');
      expect(await tx.exists('/tool/t')).toBe(true);
      expect(await dom0.exists('/tool/t')).toBe(false);
    });
    expect(await dom0.readText('/tool/t')).toBe('1');
    const failing = dom0.transaction(async (tx) => {
      await tx.rm('/tool/t');
      throw new Error('changed my mind');
    });
    await expect(failing).rejects.toThrow('changed my mind');
    expect(await dom0.readText('/tool/t')).toBe('1');
  });

  it('waits for what somebody else writes', async () => {
    const { dom0, connect } = await start(like);
    const waiting = dom0.waitUntil(async (s) => (await s.readText('/tool/state')) === '4' && 'connected', {
      what: 'state 4',
      paths: ['/tool/state'],
      timeoutMs: 10_000,
    });
    const other = await connect();
    for (const state of ['1', '2', '3', '4']) await other.write('/tool/state', state);
    expect(await waiting).toBe('connected');
  });

  it('sees domains come and go', async () => {
    const { dom0, engine } = await start(like);
    const seen: string[] = [];
    for (const path of ['@introduceDomain', '@releaseDomain']) await dom0.watch(path, (event) => seen.push(event));
    await dom0.mkdir('/tool/settle');
    seen.length = 0;
    engine.introduceDomain(7);
    engine.releaseDomain(7);
    await dom0.mkdir('/tool/settle');
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen).toEqual(['@introduceDomain', '@releaseDomain']);
  });

  it('goes on after a restart of the daemon', async () => {
    const started = await start(like);
    let backs = 0;
    const client = await started.connect({
      reconnect: { firstDelayMs: 1, maxDelayMs: 10 },
      onReconnect: () => backs++,
    });
    const seen: string[] = [];
    await client.watch('/tool/w', (path) => seen.push(path));
    await client.write('/tool/w', '1');
    await started.restart();
    expect(await client.readText('/tool/w')).toBe('1');
    seen.length = 0;
    await client.write('/tool/w', '2');
    await client.waitUntil(async () => seen.length > 0, { what: 'an event', paths: ['/tool/w'], timeoutMs: 5000 });
    expect(backs).toBe(1);
  });
});

describe('a store restored from a dump', () => {
  it('is read as it was written', async () => {
    const { dom0, dump } = await start('xenstored-4.17');
    await dom0.write('/tool/a', '1');
    const engine = new XenstoreEngine();
    engine.load(dump());
    expect(engine.dump()).toEqual(dump());
  });
});
