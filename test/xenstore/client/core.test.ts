import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Call, ClientCore, type CoreOptions, MAX_IN_FLIGHT, MAX_WAITING } from '../../../xenstore/client/core.js';
import {
  encodeMessage,
  type Message,
  MessageDecoder,
  Op,
  type OpNumber,
  type XenstoreError,
} from '../../../xenstore/index.js';
import { opName } from '../../../xenstore/wire.js';

function newCore(options: Partial<CoreOptions> = {}) {
  const events: [path: string, token: string][] = [];
  const core = new ClientCore({
    window: MAX_IN_FLIGHT,
    oneMessagePerWrite: false,
    requestIdsEchoed: true,
    onEvent: (path, token) => events.push([path, token]),
    ...options,
  });
  return { core, events };
}

function ask(core: ClientCore, type: OpNumber, path: string): Call {
  const call = new Call(type, 0, Buffer.from(`${path}\0`), path);
  call.promise.catch(() => {});
  core.submit(call);
  return call;
}

function decode(bytes: Buffer | undefined): Message[] {
  const messages: Message[] = [];
  if (bytes !== undefined) new MessageDecoder().push(bytes, (one) => messages.push(one));
  return messages;
}

const reply = (call: Call, payload: string, type: number = call.type): Buffer =>
  encodeMessage(type, call.requestId, call.transactionId, Buffer.from(payload));

const codeOf = (call: Call): Promise<string> => call.promise.then(String, (error: XenstoreError) => error.code);

describe('ClientCore sending', () => {
  it('joins the requests of a tick into one write, in order, with growing ids', () => {
    const { core } = newCore();
    for (const path of ['/a', '/b', '/c']) ask(core, Op.Read, path);
    const sent = decode(core.takeOutput());
    expect(sent.map(({ payload }) => payload.toString())).toEqual(['/a\0', '/b\0', '/c\0']);
    expect(sent.map(({ requestId }) => requestId)).toEqual([1, 2, 3]);
    expect(core.takeOutput()).toBeUndefined();
  });

  it('sends no more than the window before answers come', () => {
    const { core } = newCore({ window: 2 });
    const calls = ['/a', '/b', '/c'].map((path) => ask(core, Op.Read, path));
    expect(decode(core.takeOutput())).toHaveLength(2);
    expect(core.takeOutput()).toBeUndefined();
    expect(calls.map(({ sent }) => sent)).toEqual([true, true, false]);
    core.receive(reply(calls[0] as Call, 'x'));
    expect(decode(core.takeOutput())).toHaveLength(1);
  });

  it('gives a device one message per write', () => {
    const { core } = newCore({ window: 1, oneMessagePerWrite: true });
    ask(core, Op.Read, '/a');
    ask(core, Op.Read, '/b');
    expect(decode(core.takeOutput())).toHaveLength(1);
    expect(core.takeOutput()).toBeUndefined();
  });

  it('keeps a batch of large requests near 64 KiB', () => {
    const { core } = newCore();
    for (let i = 0; i < MAX_IN_FLIGHT; i++) core.submit(new Call(Op.Write, 0, Buffer.alloc(4096), '/a'));
    const first = core.takeOutput();
    expect(first?.length).toBe(16 * (4096 + 16));
    expect(decode(core.takeOutput())).toHaveLength(16);
  });

  it('refuses a request when too many wait, unless it is urgent', async () => {
    const { core } = newCore();
    for (let i = 0; i < MAX_WAITING; i++) ask(core, Op.Read, '/a');
    const refused = ask(core, Op.Read, '/b');
    await expect(refused.promise).rejects.toThrow("READ of '/b' refused: 16384 requests are waiting already");
    const urgent = new Call(Op.Watch, 0, Buffer.from('/w\0t\0'), '/w');
    core.submit(urgent, { urgent: true });
    expect(core.drain()).toHaveLength(MAX_WAITING + 1);
  });
});

describe('ClientCore receiving', () => {
  it('gives each request its answer, in order', async () => {
    const { core } = newCore();
    const calls = ['/a', '/b', '/c'].map((path) => ask(core, Op.Read, path));
    core.takeOutput();
    core.receive(Buffer.concat(calls.map((call) => reply(call, `value of ${call.path}`))));
    expect((await Promise.all(calls.map(({ promise }) => promise))).map(String)).toEqual([
      'value of /a',
      'value of /b',
      'value of /c',
    ]);
    expect(core.answered).toBe(3);
  });

  it.each([
    ['ENOENT\0', 'ENOENT', "xenstored refused READ of '/a': ENOENT (no such node)"],
    ['EACCES\0', 'EACCES', "xenstored refused READ of '/a': EACCES (no permission)"],
    ['EQUOTA\0', 'ENOSPC', "xenstored refused READ of '/a': 'EQUOTA', taken as ENOSPC (a quota is exhausted)"],
    [
      'EWEIRD\0',
      'EINVAL',
      "xenstored refused READ of '/a': 'EWEIRD', taken as EINVAL (the request makes no sense to it)",
    ],
    ['ENOENT', 'ENOENT', "xenstored refused READ of '/a': ENOENT (no such node)"],
    ['', 'EINVAL', "xenstored refused READ of '/a': '', taken as EINVAL (the request makes no sense to it)"],
    [
      '\x1b[2J\0',
      'EINVAL',
      "xenstored refused READ of '/a': '?[2J', taken as EINVAL (the request makes no sense to it)",
    ],
  ])('turns the error %j into %s', async (word, code, sentence) => {
    const { core } = newCore();
    const call = ask(core, Op.Read, '/a');
    core.takeOutput();
    core.receive(reply(call, word, Op.Error));
    await expect(call.promise).rejects.toMatchObject({ code, message: sentence, path: '/a' });
  });

  it('reports events between answers, even before the OK of their own watch', async () => {
    const { core, events } = newCore();
    const call = ask(core, Op.Watch, '/a\0w1');
    core.takeOutput();
    core.receive(encodeMessage(Op.WatchEvent, 0, 0, Buffer.from('/a\0w1\0')));
    expect(events).toEqual([['/a', 'w1']]);
    core.receive(reply(call, 'OK\0'));
    expect(String(await call.promise)).toBe('OK\0');
  });

  it.each<[string, (call: Call) => Buffer, RegExp]>([
    ['an answer of another type', (call) => reply(call, '', Op.Write), /answered READ of '\/a' with WRITE/],
    [
      'an answer to a later request',
      (call) => encodeMessage(Op.Read, call.requestId + 1, 0, Buffer.alloc(0)),
      /answered request 2 while 1 \(READ of '\/a'\) was next/,
    ],
    ['an event of one string', () => encodeMessage(Op.WatchEvent, 0, 0, Buffer.from('/a\0')), /not two strings/],
    [
      'an event of three strings',
      () => encodeMessage(Op.WatchEvent, 0, 0, Buffer.from('/a\0t\0u\0')),
      /not two strings/,
    ],
    ['an event without NUL', () => encodeMessage(Op.WatchEvent, 0, 0, Buffer.from('/a')), /not two strings/],
    ['an empty event', () => encodeMessage(Op.WatchEvent, 0, 0, Buffer.alloc(0)), /not two strings/],
    ['an oversize answer', (call) => reply(call, 'x'.repeat(4097)), /4097 bytes, limit 4096/],
  ])('throws protocol on %s', (_name, bytes, sentence) => {
    const { core } = newCore();
    const call = ask(core, Op.Read, '/a');
    core.takeOutput();
    const error = { code: 'protocol', message: expect.stringMatching(sentence) };
    expect(() => core.receive(bytes(call))).toThrow(expect.objectContaining(error));
    expect(core.drain()).toEqual([call]);
  });

  it('throws protocol on an answer that nobody asked for', () => {
    const { core } = newCore();
    expect(() => core.receive(encodeMessage(Op.Read, 0, 0, Buffer.alloc(0)))).toThrow(/that nobody asked for/);
    ask(core, Op.Read, '/unsent');
    expect(() => core.receive(encodeMessage(Op.Read, 0, 0, Buffer.alloc(0)))).toThrow(/that nobody asked for/);
  });

  it('does not look at request ids where the kernel changes them', async () => {
    const { core } = newCore({ requestIdsEchoed: false });
    const call = ask(core, Op.Read, '/a');
    core.takeOutput();
    core.receive(encodeMessage(Op.Read, 4711, 0, Buffer.from('v')));
    expect(String(await call.promise)).toBe('v');
  });

  it('accepts the oversize DIRECTORY answer of oxenstored', async () => {
    const { core } = newCore();
    const call = ask(core, Op.Directory, '/a');
    core.takeOutput();
    core.receive(reply(call, 'name\0'.repeat(2000)));
    expect(await call.promise).toHaveLength(10_000);
  });

  it('fails the request whose write the kernel refused, and goes on', async () => {
    const { core } = newCore({ window: 1, oneMessagePerWrite: true });
    const [first, second] = [ask(core, Op.Watch, '/a'), ask(core, Op.Read, '/b')];
    core.takeOutput();
    core.refuse('EEXIST');
    expect(await codeOf(first)).toBe('EEXIST');
    core.takeOutput();
    core.receive(reply(second, 'v'));
    expect(await codeOf(second)).toBe('v');
  });

  it('matches any interleaving of answers, errors and events, however it is split', async () => {
    const step = fc.record({ events: fc.nat(2), error: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 1, max: 50 }),
        async (steps, size) => {
          const { core, events } = newCore();
          const calls = steps.map((_, i) => ask(core, Op.Read, `/${i}`));
          core.takeOutput();
          const parts = steps.flatMap(({ events: count, error }, i) => [
            ...Array.from({ length: count }, () => encodeMessage(Op.WatchEvent, 0, 0, Buffer.from(`/${i}\0w\0`))),
            error ? reply(calls[i] as Call, 'EACCES\0', Op.Error) : reply(calls[i] as Call, String(i)),
          ]);
          const bytes = Buffer.concat(parts);
          for (let at = 0; at < bytes.length; at += size) core.receive(bytes.subarray(at, at + size));
          expect(await Promise.all(calls.map(codeOf))).toEqual(
            steps.map(({ error }, i) => (error ? 'EACCES' : String(i))),
          );
          expect(events).toHaveLength(steps.reduce((sum, { events: count }) => sum + count, 0));
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('opName', () => {
  it.each([
    [Op.Read, 'READ'],
    [Op.TransactionStart, 'TRANSACTION_START'],
    [Op.GetDomainPath, 'GET_DOMAIN_PATH'],
    [99, 'operation 99'],
  ])('of %d is %s', (type, name) => expect(opName(type)).toBe(name));
});
