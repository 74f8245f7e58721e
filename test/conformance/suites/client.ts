/**
 * Our own client on the genuine daemons, and on ours: what it promises must hold whatever is at the other end. Knows only
 * the socket.
 */
import assert from 'node:assert/strict';
import { isXenstoreError, permissions, XenstoreClient } from '../../../xenstore/index.js';

export type ClientReport = { readonly run: number; readonly problems: readonly string[] };

type Check = (connect: () => Promise<XenstoreClient>) => Promise<void>;

const TOP = '/tool/client';
/** Many more than a client has in flight. */
const MANY = 1000;
const WAIT_LIMIT_MS = 20_000;

const CHECKS: Readonly<Record<string, Check>> = {
  'reads back what it wrote': async (connect) => {
    const store = await connect();
    await store.write(`${TOP}/a/text`, 'hällo');
    await store.write(`${TOP}/a/bytes`, Uint8Array.of(0, 255, 0));
    assert.equal(await store.readText(`${TOP}/a/text`), 'hällo');
    assert.deepEqual(await store.read(`${TOP}/a/bytes`), Buffer.of(0, 255, 0));
    assert.deepEqual((await store.directory(`${TOP}/a`)).sort(), ['bytes', 'text']);
    await store.setPermissions(`${TOP}/a`, permissions('n0', 'r0'));
    assert.deepEqual(await store.getPermissions(`${TOP}/a`), permissions('n0', 'r0'));
    await store.rm(`${TOP}/a`);
    assert.equal(await store.exists(`${TOP}/a/text`), false);
    assert.equal(await store.tryReadText(`${TOP}/a/text`), undefined);
    await assert.rejects(store.read(`${TOP}/a/text`), (error) => isXenstoreError(error, 'ENOENT'));
    assert.equal(await store.getDomainPath(7), '/local/domain/7');
    assert.equal(await store.isDomainIntroduced(7), false);
  },

  'has many requests under way, and finds each answer': async (connect) => {
    const store = await connect();
    const names = Array.from({ length: MANY }, (_, i) => `a-rather-long-name-${i}`);
    await Promise.all(names.map((name, i) => store.write(`${TOP}/many/${name}`, `value ${i}`)));
    const values = await Promise.all(names.map((name) => store.readText(`${TOP}/many/${name}`)));
    assert.deepEqual(
      values,
      [...names.keys()].map((i) => `value ${i}`),
    );
    // More than one message holds.
    assert.deepEqual((await store.directory(`${TOP}/many`)).sort(), [...names].sort());
  },

  'hears of changes, in order, until it stops to listen': async (connect) => {
    const [store, other] = [await connect(), await connect()];
    const seen: string[] = [];
    const watch = await store.watch(`${TOP}/w`, (path) => seen.push(path));
    const paths = Array.from({ length: 200 }, (_, i) => `${TOP}/w/${i}`);
    for (const path of paths) await other.write(path, '');
    const what = 'the last event';
    const limits = { what, paths: [`${TOP}/w`], timeoutMs: WAIT_LIMIT_MS };
    await store.waitUntil(async () => seen.includes(paths.at(-1) ?? ''), limits);
    assert.deepEqual(seen, [`${TOP}/w`, ...paths]);
    await watch.stop();
    seen.length = 0;
    await other.write(`${TOP}/w/after`, '');
    await store.readText(`${TOP}/w/after`);
    assert.deepEqual(seen, []);
  },

  'lets writers who conflict all win in the end': async (connect) => {
    const store = await connect();
    await store.write(`${TOP}/counter`, '0');
    const clients = await Promise.all(Array.from({ length: 4 }, connect));
    const increment = (client: XenstoreClient) =>
      client.transaction(async (tx) => {
        await tx.write(`${TOP}/counter`, String(Number(await tx.readText(`${TOP}/counter`)) + 1));
      });
    await Promise.all(clients.flatMap((client) => Array.from({ length: 20 }, () => increment(client))));
    assert.equal(await store.readText(`${TOP}/counter`), '80');
  },

  'hides a transaction until it is committed, and forgets one that is given up': async (connect) => {
    const [store, other] = [await connect(), await connect()];
    await store.transaction(async (tx) => {
      await tx.write(`${TOP}/t/x`, '1');
      assert.equal(await tx.readText(`${TOP}/t/x`), '1');
      assert.equal(await other.exists(`${TOP}/t/x`), false);
    });
    assert.equal(await other.readText(`${TOP}/t/x`), '1');
    const given = store.transaction(async (tx) => {
      await tx.rm(`${TOP}/t`);
      throw new Error('changed my mind');
    });
    await assert.rejects(given, /changed my mind/);
    assert.equal(await other.readText(`${TOP}/t/x`), '1');
  },

  'waits for what somebody else writes': async (connect) => {
    const [store, other] = [await connect(), await connect()];
    const waiting = store.waitUntil(async (s) => (await s.readText(`${TOP}/state`)) === '4' && 'there', {
      what: 'state 4',
      paths: [`${TOP}/state`],
      timeoutMs: WAIT_LIMIT_MS,
    });
    for (const state of ['1', '2', '3', '4']) await other.write(`${TOP}/state`, state);
    assert.equal(await waiting, 'there');
  },

  'does not lose what it is told in a storm of events that it is slow to take': async (connect) => {
    const [store, other] = [await connect(), await connect()];
    const last = new Map<string, string>();
    const rounds = 50;
    const paths = Array.from({ length: 20 }, (_, i) => `${TOP}/storm/${i}`);
    const finished = new Promise<void>((resolve) => {
      void store.watch(`${TOP}/storm`, async (path) => {
        last.set(path, await store.readText(path).catch(() => ''));
        if (paths.every((one) => last.get(one) === String(rounds))) resolve();
      });
    });
    for (let round = 1; round <= rounds; round++) {
      await Promise.all(paths.map((path) => other.write(path, String(round))));
    }
    await inTime(finished, 'the last values');
  },

  'ends what is under way when it is closed': async (connect) => {
    const store = await connect();
    const waiting = store.waitUntil((s) => s.readText(`${TOP}/never`), {
      what: 'what never comes',
      paths: [`${TOP}/never`],
      timeoutMs: WAIT_LIMIT_MS,
    });
    const refused = assert.rejects(waiting, (error) => isXenstoreError(error, 'closed'));
    await store.mkdir(`${TOP}/settled`);
    await store.close();
    await refused;
  },
};

async function inTime(done: Promise<void>, what: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${WAIT_LIMIT_MS} ms`)), WAIT_LIMIT_MS);
  });
  await Promise.race([done, late]).finally(() => clearTimeout(timer));
}

/** Runs every check on a connection of its own to the daemon at `path`. */
export async function checkClient(name: string, path: string): Promise<ClientReport> {
  const problems: string[] = [];
  for (const [title, check] of Object.entries(CHECKS)) {
    const open: XenstoreClient[] = [];
    const connect = async () => {
      const client = await XenstoreClient.connect({ path, reconnect: false });
      open.push(client);
      return client;
    };
    try {
      await check(connect);
    } catch (error) {
      problems.push(`${name}: ${title}\n  ${(error as Error).message.replaceAll('\n', '\n  ')}`);
    }
    await Promise.all(open.map((client) => client.close()));
  }
  return { run: Object.keys(CHECKS).length, problems };
}
