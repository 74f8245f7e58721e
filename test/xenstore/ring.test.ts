import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeMessage,
  type Likeness,
  MessageDecoder,
  Op,
  RING_BYTES,
  RING_PAGE_BYTES,
  RingError,
  RingFeature,
  RingPage,
  RingServer,
  ringOpener,
  XenstoreClient,
  XenstoreEngine,
} from '../../xenstore/index.js';
import { FakeClock } from '../support/fake-clock.js';
import { until } from '../support/until.js';

/** Indices, by their place in the page. */
const WORDS = { requestConsumer: 512, requestProducer: 513, responseConsumer: 514, responseProducer: 515 } as const;

function newPage(): { bytes: Uint8Array; words: Uint32Array } {
  const bytes = new Uint8Array(RING_PAGE_BYTES);
  return { bytes, words: new Uint32Array(bytes.buffer) };
}

/** A domain whose kernel is the test. */
function newDomain(like?: Likeness) {
  const engine = new XenstoreEngine(like === undefined ? {} : { like });
  engine.introduceDomain(5);
  const { bytes, words } = newPage();
  const page = new RingPage(bytes);
  const rung = { count: 0 };
  const server = new RingServer({ engine, domid: 5, page: bytes, notify: () => rung.count++ });
  return { engine, bytes, words, page, server, rung };
}

function request(type: number, payload: string, id = 0): Buffer {
  return encodeMessage(type, id, 0, Buffer.from(payload, 'latin1'));
}

/** Answers as `type id payload`. */
function decoded(bytes: Buffer): string[] {
  const found: string[] = [];
  new MessageDecoder().push(bytes, ({ type, requestId, payload }) =>
    found.push(`${type} ${requestId} ${payload.toString('latin1').replaceAll('\0', '|')}`),
  );
  return found;
}

/** Sends everything, a piece at a time, and reads all answers. */
function converse({ page, server }: ReturnType<typeof newDomain>, pieces: readonly Buffer[]): Buffer {
  const answers: Buffer[] = [];
  const read = (): void => {
    const bytes = page.responses.read();
    if (bytes === undefined) throw new Error('the server published illegal indices');
    answers.push(bytes);
  };
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      at += page.requests.write(piece.subarray(at)) ?? Number.NaN;
      server.poll();
      read();
    }
  }
  for (let before = -1; before !== answers.length; ) {
    before = answers.length;
    server.poll();
    const bytes = page.responses.read();
    if (bytes !== undefined && bytes.length > 0) answers.push(bytes);
  }
  return Buffer.concat(answers);
}

/** Cuts at these places, taken modulo the length. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set([0, ...places.map((place) => place % (bytes.length + 1)), bytes.length])].sort(
    (a, b) => a - b,
  );
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
}

describe('a ring of bytes', () => {
  it('carries everything in order, wherever its indices begin and however it is filled and emptied', () => {
    const step = fc.oneof(
      fc.record({ write: fc.uint8Array({ maxLength: 1500 }) }),
      fc.constant({ read: true as const }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.array(step, { maxLength: 40 }), (first, steps) => {
        const { bytes, words } = newPage();
        words[WORDS.requestConsumer] = words[WORDS.requestProducer] = first;
        const ring = new RingPage(bytes).requests;
        const [sent, received]: [number[], number[]] = [[], []];
        for (const it of steps) {
          if ('read' in it) received.push(...(ring.read() ?? []));
          else sent.push(...it.write.subarray(0, ring.write(it.write)));
        }
        received.push(...(ring.read() ?? []));
        expect(received).toEqual(sent);
        // Nothing outside of this ring and its two words has been touched.
        expect(bytes.subarray(RING_BYTES, 2048).every((byte) => byte === 0)).toBe(true);
        expect(bytes.subarray(2056).every((byte) => byte === 0)).toBe(true);
      }),
    );
  });

  it('counts on over 2^32', () => {
    const { bytes, words } = newPage();
    words[WORDS.requestConsumer] = words[WORDS.requestProducer] = 0xffff_fff0;
    const ring = new RingPage(bytes).requests;
    expect(ring.write(Buffer.alloc(100, 'x'))).toBe(100);
    expect(words[WORDS.requestProducer]).toBe(84);
    expect(ring.read()).toEqual(Buffer.alloc(100, 'x'));
  });

  it('takes no more than it has space for', () => {
    const ring = new RingPage(newPage().bytes).responses;
    expect(ring.write(Buffer.alloc(2000))).toBe(RING_BYTES);
    expect(ring.write(Buffer.alloc(1))).toBe(0);
  });

  it('refuses indices that are further apart than its size', () => {
    const { bytes, words } = newPage();
    const ring = new RingPage(bytes).requests;
    for (const [consumer, producer] of [
      [0, 1025],
      [1, 0],
      [0, 0xffffffff],
      [0x80000000, 0],
    ] as const) {
      words[WORDS.requestConsumer] = consumer;
      words[WORDS.requestProducer] = producer;
      expect(ring.read()).toBeUndefined();
      expect(ring.write(Buffer.alloc(1))).toBeUndefined();
    }
  });

  it('is part of a whole page', () => {
    expect(() => new RingPage(new Uint8Array(2080))).toThrow('a page has 4096 bytes, not 2080');
  });
});

describe('a daemon on a ring', () => {
  const all = [
    request(Op.Write, 'data\0', 1),
    request(Op.GetDomainPath, '5\0', 2),
    request(Op.Read, '/tool\0', 3),
    request(Op.Directory, '/\0'.padStart(1), 4),
    request(Op.Read, `/${'x'.repeat(1900)}\0`, 5),
    request(99, 'what\0', 6),
    request(Op.Watch, 'device\0token\0', 7),
  ];
  const expected = [
    '16 1 EACCES|',
    '10 2 /local/domain/5|',
    '16 3 EACCES|',
    '16 4 EACCES|',
    '16 5 EACCES|',
    '16 6 ENOSYS|',
    '4 7 OK|',
    '15 0 device|token|',
  ];

  it('answers the same however requests are cut, and wherever the indices have got to', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 30 }), fc.integer({ min: 0, max: 0xffffffff }), (places, first) => {
        const domain = newDomain();
        domain.words[WORDS.requestConsumer] = domain.words[WORDS.requestProducer] = first;
        domain.words[WORDS.responseConsumer] = domain.words[WORDS.responseProducer] = (first * 7) >>> 0;
        expect(decoded(converse(domain, cut(Buffer.concat(all), places)))).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });

  it.each([
    ['xenstored-4.17', 2],
    ['xenstored', 14],
    ['oxenstored', 1],
  ] as const)('like %s says what it can do', (like, features) => {
    expect(newDomain(like).page.features).toBe(features);
  });

  it('never reads or writes out of bounds and never throws, whatever the guest writes anywhere in the page', () => {
    const scribble = fc.tuple(fc.integer({ min: 0, max: 1023 }), fc.integer({ min: 0, max: 0xffffffff }));
    const index = fc.tuple(
      fc.integer({ min: 512, max: 518 }),
      fc.oneof(fc.nat(2048), fc.integer({ min: 0, max: 0xffffffff })),
    );
    fc.assert(
      fc.property(
        fc.constantFrom<Likeness>('xenstored-4.17', 'xenstored', 'oxenstored'),
        fc.array(fc.array(fc.oneof(scribble, index), { maxLength: 20 }), { maxLength: 20 }),
        (like, turns) => {
          const domain = newDomain(like);
          const { page, server, words, bytes } = domain;
          for (const turn of turns) {
            page.requests.write(Buffer.concat(all));
            for (const [at, value] of turn) words[at] = value;
            const tail = bytes.slice(2080);
            server.poll();
            expect(bytes.slice(2080)).toEqual(tail);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it('ignores a domain with illegal indices, and says why', () => {
    for (const word of [WORDS.requestProducer, WORDS.responseConsumer]) {
      const { words, page, server, rung } = newDomain();
      page.requests.write(request(Op.Read, '/\0'));
      words[word] = 5000;
      server.poll();
      expect(page.error).toBe(RingError.index);
      expect(server.ignored).toBe(true);
      expect(rung.count).toBe(1);
      page.reset();
      page.requests.write(request(Op.Read, '/\0'));
      server.poll();
      expect(words[WORDS.requestConsumer]).toBe(0);
    }
  });

  it('ignores a domain that announces an over-long message, and drops its watches', () => {
    const domain = newDomain();
    converse(domain, [request(Op.Watch, 'data\0t\0')]);
    const header = request(Op.Read, '');
    header.writeUInt32LE(4097, 12);
    domain.page.requests.write(header);
    domain.server.poll();
    expect(domain.page.error).toBe(RingError.protocol);
    expect(domain.server.ignored).toBe(true);
  });

  it('stops at once when the domain is gone', () => {
    const { engine, page, server } = newDomain();
    engine.releaseDomain(5);
    expect(server.ignored).toBe(true);
    expect(page.error).toBe(RingError.none);
    server.poll();
  });

  it('makes the ring fresh when the domain asks, if it can, without the old watches', () => {
    const domain = newDomain('oxenstored');
    const { page, server, words } = domain;
    converse(domain, [request(Op.Watch, 'data\0t\0')]);
    page.requests.write(request(Op.Read, 'half').subarray(0, 18));
    page.connection = 1;
    server.poll();
    expect(page.connection).toBe(0);
    expect([...words.subarray(512, 516)]).toEqual([0, 0, 0, 0]);
    expect(server.counters.reconnects).toBe(1);
    expect(decoded(converse(domain, [request(Op.Unwatch, 'data\0t\0', 3)]))).toEqual(['16 3 ENOENT|']);
  });

  it('does not look at the wish of a domain that was not told it may have one', () => {
    const { page, server } = newDomain();
    expect(page.features & RingFeature.reconnection).toBe(0);
    page.connection = 1;
    server.poll();
    expect(page.connection).toBe(1);
    expect(server.counters.reconnects).toBe(0);
  });

  it('tells a domain that has not read once of what changed many times', () => {
    const domain = newDomain();
    const dom0 = domain.engine.connect(
      0,
      () => {},
      () => {},
    );
    dom0.push(request(Op.Write, '/local/domain/5/data\0'));
    dom0.push(request(Op.SetPerms, '/local/domain/5/data\0n5\0'));
    converse(domain, [request(Op.Watch, 'data\0t\0')]);
    // The first event that finds no space makes the others wait.
    for (let i = 0; i < 100; i++) dom0.push(request(Op.Write, `/local/domain/5/data/${i}\0`));
    for (let i = 0; i < 1000; i++) dom0.push(request(Op.Write, '/local/domain/5/data/again\0'));
    const events = decoded(converse(domain, []));
    expect(events).toHaveLength(101);
    expect(events[100]).toBe('15 0 data/again|t|');
  });

  it('reads no further request of a domain that does not read, and keeps a bounded number of events', () => {
    const domain = newDomain();
    const { engine, page, server } = domain;
    const dom0 = engine.connect(
      0,
      () => {},
      () => {},
    );
    dom0.push(request(Op.Write, `/local/domain/5/big\0${'v'.repeat(2000)}`));
    // Dom0's own nodes: those of the domain would count for its memory.
    dom0.push(request(Op.SetPerms, '/local/domain/5/big\0n0\0r5\0'));
    converse(domain, [request(Op.Watch, 'big\0token\0')]);
    const read = request(Op.Read, 'big\0');
    let written = read.length;
    while (written === read.length) {
      written = page.requests.write(read) ?? Number.NaN;
      server.poll();
    }
    const afterRequests = server.waitingBytes;
    expect(afterRequests).toBeLessThan(256 * 1024);
    for (let i = 0; i < 90_000; i++) dom0.push(request(Op.Write, `/local/domain/5/big/${i}-${'w'.repeat(60)}\0`));
    expect(server.waitingBytes).toBeLessThan(4 * 1024 * 1024 + 2 * afterRequests);
    expect(server.counters.droppedEvents).toBeGreaterThan(10_000);
    // Once it reads, every request of its ring is answered.
    const answers = decoded(converse(domain, [read.subarray(written), request(Op.GetDomainPath, '5\0', 77)]));
    expect(answers.filter((answer) => answer.startsWith('10 77 '))).toHaveLength(1);
    expect(server.waitingBytes).toBe(0);
  });
});

/** A client on a ring, with doorbells that ring in the next turn of the event loop. */
async function newClient(like: Likeness, reconnect: boolean) {
  const engine = new XenstoreEngine({ like });
  engine.introduceDomain(5);
  const { bytes, words } = newPage();
  const clock = new FakeClock();
  const handlers = new Set<() => void>();
  const notify = (): void => void setImmediate(() => handlers.forEach((handler) => void handler()));
  const server = new RingServer({ engine, domid: 5, page: bytes, notify });
  const onEvent = (handler: () => void): (() => void) => {
    handlers.add(handler);
    return () => handlers.delete(handler);
  };
  const open = ringOpener({ page: bytes, notify: () => void setImmediate(() => server.poll()), onEvent, clock });
  const dom0 = engine.connect(
    0,
    () => {},
    () => {},
  );
  dom0.push(request(Op.Write, '/local/domain/5/data\0'));
  dom0.push(request(Op.SetPerms, '/local/domain/5/data\0n5\0'));
  const client = await XenstoreClient.connect({ via: { name: 'the ring', open }, clock, reconnect });
  return { engine, server, client, clock, words, page: new RingPage(bytes) };
}

describe('a client on a ring', () => {
  it('reads, writes, lists and watches, more than the ring holds at a time', async () => {
    const { client } = await newClient('xenstored-4.17', false);
    const values = Array.from({ length: 100 }, (_, i) => `${i}:`.padEnd(200 + i, 'v'));
    await Promise.all(values.map((value, i) => client.write(`data/${i}`, value)));
    expect(await Promise.all(values.map((_, i) => client.readText(`data/${i}`)))).toEqual(values);
    expect(await client.directory('data')).toHaveLength(100);
    const seen: string[] = [];
    await client.watch('data/7', (path) => seen.push(path));
    await client.write('data/7/x', '');
    await until('the event', () => seen.includes('data/7/x'));
    await client.write('data/long', 'x'.repeat(2000));
    expect((await client.read('data/long')).length).toBe(2000);
    await client.close();
  });

  it('ends when the daemon publishes illegal indices', async () => {
    const { client, words, server } = await newClient('xenstored-4.17', false);
    server.close();
    words[WORDS.responseProducer] = 4000;
    await expect(client.read('data')).rejects.toMatchObject({ code: 'disconnected' });
  });

  it('ends when the daemon says that it ignores the ring', async () => {
    const { client, words } = await newClient('xenstored-4.17', false);
    words[WORDS.requestConsumer] = 1;
    await expect(client.read('data')).rejects.toMatchObject({
      code: 'disconnected',
      message: expect.stringMatching(/illegal ring indices|error 2/),
    });
  });

  it('has the daemon make the ring fresh, and its watches come back', async () => {
    const { client, words, clock, server } = await newClient('oxenstored', true);
    const seen: string[] = [];
    await client.watch('data', (path) => seen.push(path));
    await until('the first event', () => seen.length === 1);
    words[WORDS.responseProducer] = 4000;
    const read = client.readText('data');
    await until('it noticed', () => !client.connected);
    clock.advance(50);
    expect(await read).toBe('');
    expect(server.counters.reconnects).toBe(1);
    await client.write('data/again', '1');
    await until('the event', () => seen.includes('data/again'));
    await client.close();
  });

  it('gives up on a daemon that has said it cannot', async () => {
    const { client, words, clock } = await newClient('xenstored-4.17', true);
    words[WORDS.responseProducer] = 4000;
    const read = client.readText('data');
    const failed = expect(read).rejects.toMatchObject({ code: 'disconnected' });
    await until('it noticed', () => !client.connected);
    for (let i = 0; i < 100; i++) {
      clock.advance(100);
      await new Promise((settle) => setImmediate(settle));
    }
    await failed;
    await client.close();
  });
});
