import { afterEach, describe, expect, it } from 'vitest';
import { type ConnectOptions, type Message, Op, XenstoreClient, XenstoreError } from '../../../xenstore/index.js';
import { type PeerConnection, ScriptedPeer, stringsOf } from '../../support/scripted-peer.js';

const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

/**
 * A daemon that gives out transaction ids 1, 2, ... and answers END by `end`; the trace shows what was asked, with the
 * transaction id.
 */
async function connect(
  end: (request: Message, connection: PeerConnection, count: number) => void,
  reconnect = false,
  options: ConnectOptions = {},
) {
  const trace: string[] = [];
  let transactions = 0;
  let ends = 0;
  const peer = await ScriptedPeer.start((request, connection) => {
    const name = Object.entries(Op).find(([, type]) => type === request.type)?.[0];
    trace.push([name, request.transactionId, ...stringsOf(request)].join(' ').trim());
    if (request.type === Op.TransactionStart) connection.reply(request, `${++transactions}\0`);
    else if (request.type === Op.TransactionEnd && stringsOf(request)[0] === 'T') end(request, connection, ++ends);
    else connection.reply(request, request.type === Op.Read ? 'v' : 'OK\0');
  });
  cleanUp.push(() => peer.stop());
  const client = await XenstoreClient.connect({
    ...options,
    path: peer.path,
    reconnect: reconnect ? { firstDelayMs: 1, maxDelayMs: 1 } : false,
  });
  cleanUp.push(() => client.close());
  return { peer, client, trace };
}

const ok = (request: Message, connection: PeerConnection): void => connection.reply(request);
const conflict = (request: Message, connection: PeerConnection): void => connection.error(request, 'EAGAIN');

describe('XenstoreClient.transaction', () => {
  it('runs the operations under the id it was given, commits and returns the value', async () => {
    const { client, trace } = await connect(ok);
    const value = await client.transaction(async (tx) => {
      await tx.write('/a', '1');
      return tx.readText('/b');
    });
    expect(value).toBe('v');
    expect(trace).toEqual(['TransactionStart 0', 'Write 1 /a 1', 'Read 1 /b', 'TransactionEnd 1 T']);
  });

  it('runs again on EAGAIN until it wins', async () => {
    const { client, trace } = await connect((request, connection, count) =>
      (count < 3 ? conflict : ok)(request, connection),
    );
    let runs = 0;
    expect(await client.transaction(async (tx) => void (await tx.write('/a', String(++runs))))).toBeUndefined();
    expect(trace.filter((line) => line.startsWith('Write'))).toEqual(['Write 1 /a 1', 'Write 2 /a 2', 'Write 3 /a 3']);
  });

  it('throws conflict after maxTries', async () => {
    const { client } = await connect(conflict);
    let runs = 0;
    await expect(client.transaction(async () => ++runs, { maxTries: 4 })).rejects.toMatchObject({
      code: 'conflict',
      message: 'a transaction lost against other writers 4 times in a row',
    });
    expect(runs).toBe(4);
  });

  it('pauses for a random time, growing to 32 ms, from the fourth conflict on', async () => {
    const delays: number[] = [];
    const clock = {
      now: () => 0,
      after: (delayMs: number, fn: () => void) => {
        delays.push(delayMs);
        setImmediate(fn);
        return { cancel: () => {} };
      },
    };
    const { client } = await connect(conflict, false, { clock, random: () => 0.5, replyTimeoutMs: 0 });
    await expect(client.transaction(async () => 1, { maxTries: 11 })).rejects.toMatchObject({ code: 'conflict' });
    expect(delays).toEqual([1, 2, 4, 8, 16, 16, 16]);
  });

  it('tries 100 times by default', async () => {
    const { client } = await connect(conflict, false, { random: () => 0 });
    let runs = 0;
    await expect(client.transaction(async () => ++runs)).rejects.toMatchObject({ code: 'conflict' });
    expect(runs).toBe(100);
  });

  it.each([new XenstoreError('ENOENT', 'no such node'), new Error('any other'), new XenstoreError('EAGAIN', 'odd')])(
    'aborts and passes on what the function throws: %s',
    async (error) => {
      const { client, trace } = await connect(ok);
      await expect(client.transaction(async () => Promise.reject(error))).rejects.toBe(error);
      expect(trace).toEqual(['TransactionStart 0', 'TransactionEnd 1 F']);
    },
  );

  it('passes on errors of the commit other than EAGAIN', async () => {
    const { client } = await connect((request, connection) => connection.error(request, 'ENOMEM'));
    await expect(client.transaction(async () => 1)).rejects.toMatchObject({ code: 'ENOMEM' });
  });

  it.each(['0\0', '\0', 'x\0', '99999999999\0'])('refuses the transaction id %j', async (id) => {
    const peer = await ScriptedPeer.start((request, connection) => connection.reply(request, id));
    cleanUp.push(() => peer.stop());
    const client = await XenstoreClient.connect({ path: peer.path, reconnect: false });
    cleanUp.push(() => client.close());
    await expect(client.transaction(async () => 1)).rejects.toMatchObject({ code: 'protocol' });
  });

  it('lets the plain client and other transactions be used inside', async () => {
    const { client, trace } = await connect(ok);
    await client.transaction(async (tx) => {
      await tx.write('/in', '');
      await client.write('/out', '');
      await client.transaction(async (inner) => inner.write('/inner', ''));
    });
    expect(trace).toEqual([
      'TransactionStart 0',
      'Write 1 /in',
      'Write 0 /out',
      'TransactionStart 0',
      'Write 2 /inner',
      'TransactionEnd 2 T',
      'TransactionEnd 1 T',
    ]);
  });

  it('refuses operations after its end', async () => {
    const { client, trace } = await connect(ok);
    const tx = await client.transaction(async (inside) => inside);
    await expect(tx.write('/late', '')).rejects.toThrow(/'\/late' came after its transaction had ended/);
    expect(trace).toHaveLength(2);
  });

  it('is repeated when the connection breaks before the commit', async () => {
    const { client, trace, peer } = await connect(ok, true);
    let runs = 0;
    const value = await client.transaction(async (tx) => {
      runs++;
      await tx.write('/a', '');
      if (runs === 1) (await peer.accept()).end();
      await tx.write('/b', '');
      return runs;
    });
    expect(value).toBe(2);
    expect(trace.filter((line) => line.startsWith('TransactionEnd'))).toEqual(['TransactionEnd 2 T']);
  });

  it('says that the outcome is unknown when the answer to the commit is lost', async () => {
    const { client } = await connect((_request, connection) => connection.end(), true);
    let runs = 0;
    await expect(client.transaction(async () => ++runs)).rejects.toMatchObject({
      code: 'disconnected',
      message: expect.stringMatching(/may or may not have happened/),
    });
    expect(runs).toBe(1);
  });

  it('fails with disconnected when there will be no other connection', async () => {
    const { client, peer } = await connect(ok);
    const daemon = await peer.accept();
    await expect(
      client.transaction(async (tx) => {
        daemon.end();
        await daemon.closed;
        await tx.read('/a');
      }),
    ).rejects.toMatchObject({ code: 'disconnected' });
  });
});
