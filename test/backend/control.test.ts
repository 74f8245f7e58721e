import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { connect } from 'node:net';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ControlServer } from '../../src/backend/control.js';
import { DAEMON, EventLog, KEPT_EVENTS } from '../../src/backend/events.js';
import { escapeLabel } from '../../src/backend/metrics.js';
import { HISTORY_FIRST_BYTES } from '../../src/backend/output-feed.js';
import { LOOK_LIMIT, Reporter } from '../../src/backend/reporter.js';
import type { ChannelStatus } from '../../src/backend/status.js';
import { MAX_STREAMS, MAX_WAITING_OUTPUT_BYTES } from '../../src/backend/streams.js';
import { Timers } from '../../src/backend/turns.js';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/log.js';
import type { MemoryTty } from '../../src/simulation/memory-tty.js';
import { DaemonHost } from '../support/daemon-host.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';

const socketOf = (host: DaemonHost): string => `${host.host.runDirectory}/control.sock`;

/** The genuine curl, until it ends. */
async function curl(host: DaemonHost, path: string, ...options: string[]): Promise<string> {
  const argv = ['-sS', '--max-time', '10', '--unix-socket', socketOf(host), ...options, `http://control${path}`];
  return (await promisify(execFile)('curl', argv, { encoding: 'latin1' })).stdout;
}

interface Stream {
  readonly process: ChildProcess;
  readonly bytes: () => Buffer;
  readonly lines: () => Record<string, unknown>[];
  readonly types: () => unknown[];
  /** The head of the answer is there. */
  readonly started: () => boolean;
  readonly ended: Promise<number | null>;
}

/** The genuine curl on an answer that goes on. */
function follow(host: DaemonHost, path: string): Stream {
  const argv = ['-sSNv', '--unix-socket', socketOf(host), `http://control${path}`];
  const process = spawn('curl', argv);
  let head = '';
  process.stderr.on('data', (chunk: Buffer) => {
    head += chunk.toString();
  });
  const chunks: Buffer[] = [];
  process.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  onTestFinished(() => void process.kill());
  const bytes = (): Buffer => Buffer.concat(chunks);
  const lines = (): Record<string, unknown>[] =>
    bytes()
      .toString()
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const ended = new Promise<number | null>((settle) => process.on('close', settle));
  return {
    process,
    bytes,
    lines,
    types: () => lines().map(({ type }) => type),
    started: () => head.includes('< HTTP/1.1 '),
    ended,
  };
}

/** What a guest writes; the whole of it is with the daemon when this resolves. */
async function guestWrites(host: DaemonHost, tty: MemoryTty, text: string): Promise<void> {
  const before = host.channel().fromGuestBytes;
  tty.send(text);
  await until('the daemon has it', () => host.channel().fromGuestBytes === before + Buffer.byteLength(text));
}

describe('GET /v1/events', () => {
  it('tells the life of a channel, and ends in order with the daemon', async () => {
    const host = await DaemonHost.start();
    const stream = follow(host, '/v1/events');
    await until('it listens', () => stream.lines().length === 1);
    expect(stream.lines()[0]).toMatchObject({ type: 'listening', pid: process.pid });
    const { path } = await host.plug();
    const client = await host.client(path);
    await until('the client is seen', () => host.channel().hostOpen);
    client.socket.destroy();
    await until('it is missed', () => !host.channel().hostOpen);
    await host.detach();
    await until('the channel is gone', () => stream.types().includes('gone'));
    await host.host.stopDaemon();
    expect(await stream.ended).toBe(0);
    expect(stream.types()).toEqual([
      'listening',
      'appeared',
      'connected',
      'client-connected',
      'client-gone',
      'closing',
      'disconnected',
      'gone',
      'stopping',
    ]);
    const about = stream.lines().slice(1, -1);
    for (const event of about) {
      expect(event).toMatchObject({ domid: 1, deviceId: 1, name: 'org.example.a', uuid: expect.any(String) });
    }
    const ids = stream.lines().map(({ id }) => Number(id));
    expect(ids.slice(1)).toEqual(ids.slice(1).map((_, index) => Number(ids[1]) + index));
  });

  it('replays what came after an id, of one domain if that is asked for', async () => {
    const host = await DaemonHost.start({ domains: 2 });
    const before = follow(host, '/v1/events');
    await until('it listens', () => before.lines().length === 1);
    await host.plug();
    await host.attach({}, '2');
    await until('both are connected', () => before.types().filter((type) => type === 'connected').length === 2);
    const [, appeared] = before.lines();
    const all = follow(host, `/v1/events?since=${appeared?.['id']}`);
    await until('the replay is there', () => all.lines().length === before.lines().length - 1);
    expect(all.lines().slice(1)).toEqual(before.lines().slice(2));
    const second = follow(host, '/v1/events?since=0&domid=2');
    await until('the replay is there', () => second.types().includes('connected'));
    expect(second.types().slice(0, 2)).toEqual(['listening', 'missed']);
    expect(second.lines()[1]).toEqual({ type: 'missed', count: null });
    const domids = second.lines().flatMap(({ domid }) => (typeof domid === 'number' ? [domid] : []));
    expect(new Set(domids)).toEqual(new Set([2]));
  });

  it('tells drops at once, and then not more often than once a second', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug({ limitBytes: 4096 });
    const stream = follow(host, '/v1/events');
    await until('it listens', () => stream.lines().length === 1);
    for (let round = 0; round < 8; round++) await guestWrites(host, tty, 'x'.repeat(4096));
    expect(host.channel().droppedBytes).toBe(7 * 4096);
    const drops = () => stream.lines().filter(({ type }) => type === 'dropped');
    await until('all are told', () => drops().at(-1)?.['droppedBytes'] === 7 * 4096);
    expect(drops().length).toBeLessThanOrEqual(2);
    expect(drops().reduce((sum, { bytes }) => sum + Number(bytes), 0)).toBe(7 * 4096);
  });

  it('logs drops once, and again when a client has come meanwhile', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug({ limitBytes: 4096 });
    const logged = () => host.log.filter(({ msg }) => msg === 'the spool is full: output of the guest is dropped');
    for (let round = 0; round < 4; round++) await guestWrites(host, tty, 'x'.repeat(4096));
    await until('it is logged', () => logged().length === 1);
    expect(logged()[0]?.fields).toMatchObject({ name: 'org.example.a', spoolLimitBytes: 4096 });
    const client = await host.client(path);
    await until('it has all', () => client.received.length === 4096);
    client.socket.destroy();
    await until('it is gone', () => !host.channel().hostOpen);
    for (let round = 0; round < 4; round++) await guestWrites(host, tty, 'x'.repeat(4096));
    await until('it is logged again', () => logged().length === 2);
  });

  it('tells a problem, and when it is solved', async () => {
    const host = await DaemonHost.start();
    const stream = follow(host, '/v1/events');
    await until('it listens', () => stream.lines().length === 1);
    const { createServer } = await import('node:net');
    const path = `${host.host.runDirectory}/taken.sock`;
    await host.attach({ path });
    const rival = createServer();
    await host.states(1, '4', '4');
    await host.host.stopDaemon();
    await new Promise<void>((listening) => rival.listen(path, listening));
    await host.host.startDaemon();
    const again = follow(host, '/v1/events?since=0');
    await until('it is told', () => again.types().includes('problem'));
    expect(again.lines().find(({ type }) => type === 'problem')).toMatchObject({ code: 'path-in-use', domid: 1 });
    await new Promise((closed) => rival.close(closed));
    await until('it is solved', () => again.types().includes('problem-solved'));
  });

  it('refuses more listeners than it can have, and takes another when one has gone', async () => {
    const host = await DaemonHost.start();
    const streams = Array.from({ length: MAX_STREAMS }, () => follow(host, '/v1/events'));
    await until('all listen', () => streams.every(({ lines }) => lines().length === 1), 15_000);
    expect(await host.get('/v1/events')).toEqual({ code: 503, body: { error: 'too-many-streams' } });
    expect((await host.get('/v1/health')).code).toBe(200);
    streams[0]?.process.kill();
    await streams[0]?.ended;
    let last = follow(host, '/v1/events');
    await until('there is room', () => {
      if (last.lines().length === 1 && last.lines()[0]?.['error'] !== undefined) last = follow(host, '/v1/events');
      return last.types()[0] === 'listening';
    });
  });
});

describe('a listener that does not read', () => {
  it('costs the daemon nothing but a bounded queue, and learns how many events it missed', async () => {
    const events = new EventLog(systemClock);
    const path = `${temporaryDirectory()}/control.sock`;
    const status = { pid: 1, startedAt: '', backendDomid: 0, runDirectory: '', channels: [], refused: [], wanted: [] };
    const control = new ControlServer({ path, events, status: () => status, channel: () => undefined });
    await control.start();
    onTestFinished(() => control.stop());
    const socket = connect(path);
    onTestFinished(() => void socket.destroy());
    socket.write('GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n');
    await until('it listens', () => socket.bytesRead > 0);
    socket.pause();
    const published = 10_000;
    for (let count = 0; count < published; count++) events.publish('problem', DAEMON, { message: 'x'.repeat(200) });
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.resume();
    await until('it is told', () => /"type":"missed","count":\d+/.test(text));
    const missed = Number(/"type":"missed","count":(\d+)/.exec(text)?.[1]);
    const told = text.split('"type":"problem"').length - 1;
    expect(missed).toBeGreaterThan(published / 2);
    expect(missed + told).toBe(published);
    events.publish('started', DAEMON);
    await until('the next one comes again', () => text.includes('"type":"started"'));
  });
});

describe('GET /v1/metrics', () => {
  it('is what Prometheus reads, with figures of each channel', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug({ name: 'org.example.a' });
    await guestWrites(host, tty, 'x'.repeat(100));
    const client = await host.client(path);
    await until('the client has all', () => client.received.length === 100);
    const text = await curl(host, '/v1/metrics', '-i');
    expect(text).toContain('text/plain; version=0.0.4; charset=utf-8\r\n');
    const [, body = ''] = text.split('\r\n\r\n');
    const labels = `{domid="1",uuid="${host.channel().uuid}",device_id="1",name="org.example.a"}`;
    for (const sample of [
      `xenchannel_channel_from_guest_bytes_total${labels} 100`,
      `xenchannel_channel_delivered_bytes${labels} 100`,
      `xenchannel_channel_dropped_bytes_total${labels} 0`,
      `xenchannel_channel_spool_limit_bytes${labels} 1048576`,
      `xenchannel_channel_host_open${labels} 1`,
      `xenchannel_channel_connected${labels} 1`,
      'xenchannel_up 1',
      'xenchannel_channels 1',
    ]) {
      expect(body.split('\n')).toContain(sample);
    }
    expect(body).toMatch(/^xenchannel_build_info\{version="\d+\.\d+\.\d+",node="v\d+/m);
    expect(problemsOfMetrics(body)).toEqual([]);
  });
});

describe('the text format', () => {
  it('keeps any label value whole', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        const escaped = escapeLabel(value);
        expect(escaped).not.toMatch(/\n|(^|[^\\])(\\\\)*"/);
        expect(escaped.replace(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char))).toBe(value);
      }),
    );
  });
});

/** What the format asks for: HELP and TYPE once before the samples of a family, counters that end in _total. */
function problemsOfMetrics(text: string): string[] {
  const problems: string[] = text.endsWith('\n') ? [] : ['no newline at the end'];
  const types = new Map<string, string>();
  let help: string | undefined;
  for (const line of text.trimEnd().split('\n')) {
    const [, about] = /^# HELP (\S+) \S/.exec(line) ?? [];
    const [, typed, type = ''] = /^# TYPE (\S+) (counter|gauge)$/.exec(line) ?? [];
    if (about !== undefined) help = about;
    else if (typed !== undefined) {
      if (typed !== help || types.has(typed)) problems.push(line);
      if ((type === 'counter') !== typed.endsWith('_total')) problems.push(line);
      types.set(typed, type);
    } else {
      const sample = /^([a-z_]+)(\{([a-z_]+="([^"\\\n]|\\["\\n])*"(,(?=[a-z]))?)+\})? (-?\d+(\.\d+)?)$/.exec(line);
      if (sample === null || sample[1] !== help || !types.has(sample[1] ?? '')) problems.push(line);
    }
  }
  return problems;
}

describe('GET /v1/status', () => {
  it('can be had for one domain and for one channel', async () => {
    const host = await DaemonHost.start({ domains: 2 });
    await host.plug({ name: 'a' });
    await host.plug({ name: 'b' });
    await host.attach({ name: 'a' }, '2');
    await until('all are served', () => host.status.channels.length === 3);
    const names = async (query: string): Promise<unknown> => {
      const { channels } = JSON.parse(await curl(host, `/v1/status${query}`)) as {
        channels: { domid: number; name: string }[];
      };
      return channels.map(({ domid, name }) => `${domid}:${name}`).sort();
    };
    expect(await names('')).toEqual(['1:a', '1:b', '2:a']);
    expect(await names('?domid=1')).toEqual(['1:a', '1:b']);
    expect(await names('?domid=1&name=b')).toEqual(['1:b']);
    expect(await names('?name=a')).toEqual(['1:a', '2:a']);
    expect(await names('?domid=9')).toEqual([]);
  });

  it('counts down what the guest has not taken yet', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug({ speakFirst: true });
    expect(host.channel().unconsumedBytes).toBe(0);
    const client = await host.client(path);
    client.socket.write('x'.repeat(100_000));
    await until('it is under way', () => host.channel().unconsumedBytes > 0);
    tty.openLine();
    let got = 0;
    await until('the guest has it', () => {
      got += tty.receive().length;
      return got === 100_000;
    });
    await until('nothing is pending', () => host.channel().unconsumedBytes === 0);
    expect(host.channel().chardev).toMatchObject({ bytesFromWriter: 100_000 });
  });
});

describe('a request that makes no sense', () => {
  const REFUSED: [what: string, path: string, options: string[], code: string][] = [
    ['a path that is none', '/v1/../etc/passwd', ['--path-as-is'], '404'],
    ['a name of an object', '/__proto__', [], '404'],
    ['a channel that is none', '/v1/channels/1/99/output', [], '404'],
    ['a domid that is none', '/v1/status?domid=x', [], '400'],
    ['an id that is too large', '/v1/events?since=99999999999999999999', [], '400'],
    ['another method', '/v1/events', ['-X', 'DELETE'], '405'],
    ['changing something by GET', '/v1/channels/1/1/release-writer', [], '405'],
    ['a header that does not end', '/v1/health', ['-H', `x: ${'y'.repeat(9000)}`], '431'],
  ];
  it.each(REFUSED)('%s is refused', async (_what, path, options, code) => {
    const host = await DaemonHost.start();
    await host.plug();
    expect(await curl(host, path, '-o', '/dev/null', '-w', '%{http_code}', ...options)).toBe(code);
    expect((await host.get('/v1/health')).code).toBe(200);
  });

  it('loses its connection when its body does not end', async () => {
    const host = await DaemonHost.start();
    const socket = connect(socketOf(host));
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => {});
    socket.write('POST /v1/health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n');
    const closed = new Promise((settle) => socket.on('close', settle));
    socket.resume();
    const pour = (): void => {
      while (!socket.destroyed && socket.write('x'.repeat(1000)));
    };
    socket.on('drain', pour);
    pour();
    await closed;
    expect((await host.get('/v1/health')).code).toBe(200);
  });
});

describe('GET /v1/channels/D/N/output', () => {
  const OUTPUT = '/v1/channels/1/1/output';

  it('follows what the guest says beside the client, without taking anything from it', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    await guestWrites(host, tty, 'before');
    const fresh = follow(host, `${OUTPUT}?follow=1`);
    const whole = follow(host, `${OUTPUT}?follow=1&since=start`);
    const rest = follow(host, `${OUTPUT}?follow=1&since=3`);
    await until('they follow', () => whole.bytes().length === 6 && rest.bytes().length === 3);
    await until('all are there', () => fresh.started());
    tty.send('\xff\x00after');
    const all = Buffer.from('before\xff\x00after');
    await until('all have it', () => whole.bytes().equals(all) && rest.bytes().equals(all.subarray(3)));
    await until('the fresh one, too', () => fresh.bytes().equals(all.subarray(6)));
    const client = await host.client(path);
    await until('the client gets all', () => client.received.equals(all));
    await host.detach();
    expect(await Promise.all([fresh.ended, whole.ended, rest.ended])).toEqual([0, 0, 0]);
  });

  it('gives what is kept and says where it begins; says so where bytes are gone', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug();
    const text = Array.from({ length: 30_000 }, (_, index) => `line ${index}\n`).join('');
    for (let at = 0; at < text.length; at += 4000) await guestWrites(host, tty, text.slice(at, at + 4000));
    const { code, body } = await host.get(`${OUTPUT}?since=20000`);
    expect(code).toBe(416);
    const { kept } = body as { kept: { start: number; first: number; last: number; total: number } };
    expect(kept).toMatchObject({ requested: 20_000, start: 0, first: HISTORY_FIRST_BYTES, total: text.length });
    expect(await curl(host, `${OUTPUT}?since=start`)).toBe(text.slice(0, HISTORY_FIRST_BYTES));
    expect(await curl(host, `${OUTPUT}?since=${kept.last}&follow=0`, '-D', '-')).toMatch(
      new RegExp(`\r\nxenchannel-offset: ${kept.last}\r\n[^]*line 29999\n$`),
    );
    expect(await curl(host, `${OUTPUT}?since=${text.length - 9}`)).toBe(text.slice(-9));
    expect((await host.get(`${OUTPUT}?since=${text.length + 1}`)).code).toBe(416);
  });

  it('cuts off who is too slow, in a way that cannot be taken for the end', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug();
    const socket = connect(socketOf(host));
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => {});
    socket.write(`GET ${OUTPUT}?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until('it follows', () => socket.bytesRead > 0);
    socket.pause();
    const piece = 'x'.repeat(4000);
    for (let sent = 0; sent < 3 * MAX_WAITING_OUTPUT_BYTES; sent += piece.length) await guestWrites(host, tty, piece);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    const closed = new Promise((settle) => socket.on('close', settle));
    socket.resume();
    await closed;
    expect(text.endsWith('0\r\n\r\n')).toBe(false);
  });

  it('goes on counting after an orderly restart of the daemon', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug();
    await guestWrites(host, tty, 'one');
    await host.host.stopDaemon();
    await host.host.startDaemon();
    await guestWrites(host, tty, 'two');
    expect((await host.get(`${OUTPUT}?since=0`)).body).toMatchObject({ kept: { start: 3, total: 6 } });
    expect(await curl(host, `${OUTPUT}?since=start`)).toBe('two');
  });
});

describe('POST /v1/channels/D/N/release-writer', () => {
  it('sends the writing client away, so that another can write, and says who asked', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug({ speakFirst: true });
    const first = await host.client(path);
    await until('it is there', () => host.channel().hostOpen);
    first.socket.write('last words');
    const answer = await curl(host, '/v1/channels/1/1/release-writer?by=root%0aon%20pts/3', '-X', 'POST');
    expect(JSON.parse(answer)).toEqual({ released: true });
    await until('it has lost its place', () => first.ended);
    const second = await host.client(path);
    await until('the other has it', () => host.channel().hostOpen);
    second.socket.write(', and more');
    const events = follow(host, '/v1/events?since=0');
    await until('it is told', () => events.types().includes('client-replaced'));
    expect(events.lines().find(({ type }) => type === 'client-replaced')).toMatchObject({ by: 'root?on pts/3' });
    expect(host.channel().replaced).toMatchObject({ by: 'root?on pts/3' });
    const [tty] = host.lines.slice(-1);
    tty?.openLine();
    let got = '';
    await until('the guest has both', () => {
      got += tty?.receive() ?? '';
      return got === 'last words, and more';
    });
  });

  it('does nothing where nobody writes', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    expect(await host.get('/v1/channels/1/1/release-writer', 'POST')).toEqual({ code: 200, body: { released: false } });
    expect(host.channel().replaced).toBe(null);
  });
});

describe('the history of events', () => {
  it('is bounded, and says how many are gone', () => {
    const log = new EventLog(new FakeClock(5));
    for (let count = 0; count < KEPT_EVENTS + 10; count++) log.publish('started', DAEMON);
    const first = 5001;
    expect(log.since(first - 1)).toMatchObject({ missed: 10 });
    expect(log.since(first - 1).events).toHaveLength(KEPT_EVENTS);
    expect(log.since(first + 9)).toMatchObject({ missed: 0 });
    expect(log.since(log.lastId)).toEqual({ events: [], missed: 0 });
    expect(log.since(3)).toMatchObject({ missed: null });
    expect(log.since(log.lastId + 1)).toMatchObject({ missed: null });
  });
});

describe('a guest that flaps', () => {
  it('gets only so many events, and the last state is told', () => {
    const clock = new FakeClock();
    const events = new EventLog(clock);
    let status = {
      problems: [],
      gap: null,
      phase: 'waiting',
      guestOpen: null,
      hostOpen: false,
    } as unknown as ChannelStatus;
    const reporter = new Reporter({
      events,
      log: silentLogger,
      clock,
      timers: new Timers(clock),
      status: () => status,
    });
    reporter.appeared();
    for (let round = 0; round < 1001; round++) {
      status = { ...status, guestOpen: round % 2 === 0 };
      reporter.look();
    }
    expect(events.published).toBe(1 + LOOK_LIMIT.count);
    clock.advance(LOOK_LIMIT.windowMs);
    expect(events.published).toBe(2 + LOOK_LIMIT.count);
    expect(events.since(0).events.at(-1)).toMatchObject({ type: 'guest-open' });
    expect(clock.pending).toBe(0);
  });
});
