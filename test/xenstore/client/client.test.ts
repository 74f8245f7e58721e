import { afterEach, describe, expect, it } from 'vitest';
import {
  type ConnectOptions,
  encodeMessage,
  type Message,
  Op,
  permissions,
  XenstoreClient,
} from '../../../xenstore/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { type Answer, type PeerConnection, ScriptedPeer, stringsOf } from '../../support/scripted-peer.js';

const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

async function connect(options: ConnectOptions = {}, answer?: Answer) {
  const peer = await ScriptedPeer.start(answer);
  cleanUp.push(() => peer.stop());
  const client = await XenstoreClient.connect({ path: peer.path, reconnect: false, ...options });
  cleanUp.push(() => client.close());
  return { peer, client, daemon: await peer.accept() };
}

/** Lets everything that is under way in this process and its sockets happen. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('XenstoreClient requests', () => {
  const CASES: ReadonlyArray<
    [
      what: string,
      (client: XenstoreClient) => Promise<unknown>,
      type: number,
      payload: string,
      answer: string,
      result: unknown,
    ]
  > = [
    ['read', (c) => c.read('/a'), Op.Read, '/a\0', 'v\0w', Buffer.from('v\0w')],
    ['readText', (c) => c.readText('/a'), Op.Read, '/a\0', 'hällo', 'hällo'],
    ['tryReadText', (c) => c.tryReadText('a/b'), Op.Read, 'a/b\0', '', ''],
    ['directory', (c) => c.directory('/a'), Op.Directory, '/a\0', 'x\0y\0', ['x', 'y']],
    ['directory of a leaf', (c) => c.directory('/a'), Op.Directory, '/a\0', '', []],
    ['tryDirectory', (c) => c.tryDirectory('/a'), Op.Directory, '/a\0', 'x\0', ['x']],
    ['exists', (c) => c.exists('/a'), Op.Read, '/a\0', '', true],
    ['getPermissions', (c) => c.getPermissions('/a'), Op.GetPerms, '/a\0', 'n5\0r0\0', permissions('n5', 'r0')],
    ['write of text', (c) => c.write('/a', 'hällo'), Op.Write, '/a\0hällo', 'OK\0', undefined],
    ['write of nothing', (c) => c.write('/a', ''), Op.Write, '/a\0', 'OK\0', undefined],
    ['write of bytes', (c) => c.write('/a', Uint8Array.of(0, 65)), Op.Write, '/a\0\0A', 'OK\0', undefined],
    ['mkdir', (c) => c.mkdir('/a'), Op.Mkdir, '/a\0', 'OK\0', undefined],
    ['rm', (c) => c.rm('/a'), Op.Rm, '/a\0', 'OK\0', undefined],
    [
      'setPermissions',
      (c) => c.setPermissions('/a', permissions('n0', 'r5')),
      Op.SetPerms,
      '/a\0n0\0r5\0',
      'OK\0',
      undefined,
    ],
    ['getDomainPath', (c) => c.getDomainPath(5), Op.GetDomainPath, '5\0', '/local/domain/5\0', '/local/domain/5'],
    ['isDomainIntroduced (yes)', (c) => c.isDomainIntroduced(5), Op.IsDomainIntroduced, '5\0', 'T\0', true],
    ['isDomainIntroduced (no)', (c) => c.isDomainIntroduced(5), Op.IsDomainIntroduced, '5\0', 'F\0', false],
    ['introduce', (c) => c.introduce(5, 0xfeff0n, 3), Op.Introduce, '5\x001044464\x003\0', 'OK\0', undefined],
    ['release', (c) => c.release(5), Op.Release, '5\0', 'OK\0', undefined],
    ['setTarget', (c) => c.setTarget(6, 5), Op.SetTarget, '6\x005\0', 'OK\0', undefined],
    ['resetWatches', (c) => c.resetWatches(), Op.ResetWatches, '\0', 'OK\0', undefined],
    ['control', (c) => c.control('print', 'a b'), Op.Control, 'print\0a b\0', 'fine\0', 'fine'],
  ];

  it.each(CASES)(
    '%s goes out and comes back as the protocol says',
    async (_what, run, type, payload, answer, result) => {
      const { client, daemon } = await connect();
      const running = run(client);
      const request = await daemon.next();
      expect([request.type, request.transactionId, request.payload.toString()]).toEqual([type, 0, payload]);
      daemon.reply(request, answer);
      expect(await running).toEqual(result);
    },
  );

  it.each<[string, (client: XenstoreClient) => Promise<unknown>, unknown]>([
    ['tryReadText', (c) => c.tryReadText('/a'), undefined],
    ['tryDirectory', (c) => c.tryDirectory('/a'), []],
    ['exists', (c) => c.exists('/a'), false],
  ])('%s takes ENOENT as an answer and passes EACCES on', async (_what, run, result) => {
    const { client, daemon } = await connect();
    const [absent, refused] = [run(client), run(client)];
    refused.catch(() => {});
    daemon.error(await daemon.next(), 'ENOENT');
    daemon.error(await daemon.next(), 'EACCES');
    expect(await absent).toEqual(result);
    await expect(refused).rejects.toMatchObject({ code: 'EACCES', path: '/a' });
  });

  it.each<[string, (client: XenstoreClient) => Promise<unknown>, string, RegExp]>([
    ['an illegal path', (c) => c.read('/a.b'), 'EINVAL', /no xenstore path/],
    ['a watch of an illegal path', (c) => c.watch('', () => {}), 'EINVAL', /it is empty/],
    ['a path and value of 4097 bytes', (c) => c.write('/ab', 'x'.repeat(4093)), 'E2BIG', /4097 bytes, limit 4096/],
    [
      'too many permissions',
      (c) => c.setPermissions('/a', permissions('n0', ...Array(1400).fill('r5'))),
      'E2BIG',
      /limit 4096/,
    ],
    [
      'DOMID_ANY over a socket',
      (c) => c.setPermissions('/a', permissions('n0', 'r32757')),
      'EINVAL',
      /can crash xenstored/,
    ],
    ['a domain id that is none', (c) => c.getDomainPath(65536), 'EINVAL', /65536 is outside 0-65535/],
    ['a fraction of a domain', (c) => c.release(1.5), 'EINVAL', /1.5 is no number/],
    ['a negative frame', (c) => c.introduce(5, -1n, 3), 'EINVAL', /-1 is no number/],
    ['a long command', (c) => c.control('x'.repeat(4096)), 'E2BIG', /4097 bytes, limit 4096/],
  ])('%s is refused before anything is sent', async (_what, run, code, sentence) => {
    const { client, daemon } = await connect();
    await expect(run(client)).rejects.toMatchObject({ code, message: expect.stringMatching(sentence) });
    const next = client.read('/next');
    const request = await daemon.next();
    expect(stringsOf(request)).toEqual(['/next']);
    daemon.reply(request, '');
    await next;
  });

  it('a path and value of exactly 4096 bytes are sent', async () => {
    const { client, daemon } = await connect();
    const running = client.write('/ab', 'x'.repeat(4092));
    const request = await daemon.next();
    expect(request.payload).toHaveLength(4096);
    daemon.reply(request);
    await running;
  });

  it('all requests of one tick arrive in one write', async () => {
    const { client, daemon } = await connect({}, (request, connection) => connection.reply(request, 'v'));
    await Promise.all(['/a', '/b', '/c'].map((path) => client.read(path)));
    expect(daemon.chunkBytes).toEqual([3 * (16 + 3)]);
  });

  it('a value does not keep the chunk alive in which it came', async () => {
    const { client } = await connect({}, (request, connection) => connection.reply(request, 'x'.repeat(4096)));
    // Node 24 cuts small buffers from pools as large as a chunk: as before it, so that the two can be told apart.
    const { poolSize } = Buffer;
    Buffer.poolSize = 8192;
    try {
      const values = await Promise.all(Array.from({ length: 10 }, () => client.read('/a')));
      for (const value of values) expect(value.buffer.byteLength).toBeLessThanOrEqual(8192);
    } finally {
      Buffer.poolSize = poolSize;
    }
  });

  it('a long directory is read in parts', async () => {
    const { client } = await connect({}, (request, connection) => {
      if (request.type === Op.Directory) connection.error(request, 'E2BIG');
      else if (stringsOf(request)[1] === '0') connection.reply(request, '7\0one\0two\0');
      else connection.reply(request, '7\0three\0\0');
    });
    expect(await client.directory('/a')).toEqual(['one', 'two', 'three']);
  });

  it.each(['', 'hello\0', 'n5\0x0\0'])('permissions that are none (%j) are a protocol error', async (answer) => {
    const { client } = await connect({}, (request, connection) => connection.reply(request, answer));
    await expect(client.getPermissions('/a')).rejects.toMatchObject({ code: 'protocol' });
  });
});

describe('XenstoreClient with a peer that misbehaves', () => {
  it.each<[string, (request: Message, connection: PeerConnection) => void, RegExp]>([
    [
      'answers of another type',
      (request, c) => c.reply(request, '', Op.Directory),
      /answered READ of '\/a' with DIRECTORY/,
    ],
    [
      'answers out of order',
      (request, c) => c.raw(encodeMessage(Op.Read, request.requestId + 1, 0, Buffer.alloc(0))),
      /answered request 2 while 1/,
    ],
    [
      'an oversize answer',
      (_request, c) => c.raw(Buffer.from('0200000001000000000000000000ffff', 'hex')),
      /limit 4096/,
    ],
    [
      'a malformed event',
      (_request, c) => c.raw(encodeMessage(Op.WatchEvent, 0, 0, Buffer.from('x'))),
      /not two strings/,
    ],
  ])('%s end the connection and fail all requests with protocol', async (_name, misbehave, sentence) => {
    const reasons: string[] = [];
    const { client, daemon } = await connect({ onDisconnect: ({ code }) => reasons.push(code) });
    const running = [client.read('/a'), client.read('/b')];
    for (const one of running) one.catch(() => {});
    misbehave(await daemon.next(), daemon);
    for (const one of running) {
      await expect(one).rejects.toMatchObject({ code: 'protocol', message: expect.stringMatching(sentence) });
    }
    await daemon.closed;
    expect(client.connected).toBe(false);
  });

  it('an end in the middle of a message fails what was in flight with disconnected', async () => {
    const { client, daemon } = await connect();
    const running = client.write('/a', 'x');
    const request = await daemon.next();
    daemon.raw(encodeMessage(Op.Write, request.requestId, 0, Buffer.from('OK\0')).subarray(0, 17));
    daemon.end();
    await expect(running).rejects.toMatchObject({
      code: 'disconnected',
      message: "WRITE of '/a' may or may not have been carried out: xenstored closed the connection",
    });
    await expect(client.read('/b')).rejects.toMatchObject({ code: 'disconnected' });
  });

  it('a daemon that stops answering is given up after the reply timeout', async () => {
    const clock = new FakeClock();
    const { client, daemon } = await connect({ clock, replyTimeoutMs: 1000 });
    const first = client.read('/a');
    daemon.reply(await daemon.next(), 'v');
    await first;
    const second = client.read('/b');
    second.catch(() => {});
    await daemon.next();
    // The first period saw an answer; the second and third none.
    clock.advance(1000);
    expect(client.connected).toBe(true);
    clock.advance(1000);
    clock.advance(1000);
    await expect(second).rejects.toThrow(/has not answered READ of '\/b' for 1000 ms/);
    expect(clock.pending).toBe(0);
  });

  it('requests beyond what the socket takes wait until it takes more, and all arrive', async () => {
    const { client, daemon } = await connect();
    daemon.socket.pause();
    const running = Array.from({ length: 400 }, (_, i) => client.write(`/${i}`, 'x'.repeat(4000)));
    await turn();
    await turn();
    daemon.answerWith((request, connection) => connection.reply(request));
    daemon.socket.resume();
    await Promise.all(running);
  });
});

describe('XenstoreClient.close', () => {
  it('fails what is in flight, and everything later, with closed', async () => {
    const { client, daemon } = await connect();
    const running = [client.read('/a'), client.watch('/w', () => {}), client.transaction(async () => {})];
    for (const one of running) one.catch(() => {});
    await daemon.next();
    await client.close();
    for (const one of running) await expect(one).rejects.toMatchObject({ code: 'closed' });
    await expect(client.read('/a')).rejects.toMatchObject({ code: 'closed' });
    await expect(client.watch('/a', () => {})).rejects.toMatchObject({ code: 'closed' });
    await expect(client.transaction(async () => {})).rejects.toMatchObject({ code: 'closed' });
    await daemon.closed;
  });

  it('can be called twice', async () => {
    const { client } = await connect();
    await Promise.all([client.close(), client.close()]);
    await client.close();
  });

  it('does not tell onDisconnect', async () => {
    let told = 0;
    const { client, daemon } = await connect({ onDisconnect: () => told++ });
    await client.close();
    await daemon.closed;
    expect(told).toBe(0);
  });

  it('leaves no timer behind', async () => {
    const clock = new FakeClock();
    const { client } = await connect({ clock });
    client.read('/a').catch(() => {});
    const waiting = client.waitUntil(async () => undefined, { what: 'x', paths: ['/a'], timeoutMs: 1000 });
    waiting.catch(() => {});
    await turn();
    expect(clock.pending).toBeGreaterThan(0);
    await client.close();
    await expect(waiting).rejects.toMatchObject({ code: 'closed' });
    expect(clock.pending).toBe(0);
  });
});
