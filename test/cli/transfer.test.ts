/** send, recv, wait and events against the real daemon and guests in memory. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { KEY } from '../../src/console/layout.js';
import type { MemoryTty } from '../../src/simulation/memory-tty.js';
import { DaemonHost } from '../support/daemon-host.js';
import { until } from '../support/until.js';
import { type CliResult, cli, start } from './harness.js';

const NAME = 'org.example.a';

interface Bench {
  readonly host: DaemonHost;
  readonly tty: MemoryTty;
  readonly path: string;
  readonly env: NodeJS.ProcessEnv;
  readonly xc: (...argv: string[]) => Promise<CliResult>;
  readonly file: (name: string) => string;
}

async function bench(): Promise<Bench> {
  const host = await DaemonHost.start();
  const { tty, path } = await host.plug({ speakFirst: true });
  const env = { XENSTORED_PATH: host.host.storePath, XENCHANNEL_RUNDIR: host.host.runDirectory };
  mkdirSync(`${host.host.root}/files`);
  return {
    host,
    tty,
    path,
    env,
    xc: (...argv) => cli(env, ...argv),
    file: (name) => `${host.host.root}/files/${name}`,
  };
}

/** Takes what arrives at the guest until it is as much. */
async function guestTakes(tty: MemoryTty, bytes: number): Promise<Buffer> {
  tty.openLine();
  let got = Buffer.alloc(0);
  await until('the guest has it', () => {
    got = Buffer.concat([got, tty.receive() as Buffer]);
    return got.length >= bytes;
  });
  return got;
}

const pattern = (bytes: number): Buffer => Buffer.from(Uint8Array.from({ length: bytes }, (_, index) => index * 7));

describe('xenchannel send', () => {
  it('returns with --wait-consumed only when the guest has taken the last byte', async () => {
    const { tty, env, file, host } = await bench();
    const bytes = pattern(200 * 1024);
    writeFileSync(file('config'), bytes);
    const running = start(env, ['send', '1', NAME, file('config'), '--wait-consumed', '--timeout', '20']);
    let code: number | undefined;
    void running.done.then((value) => {
      code = value;
    });
    await until('it is under way', () => host.channel().unconsumedBytes > 0);
    tty.openLine();
    let got = Buffer.alloc(0);
    await until('the guest has all', () => {
      if (got.length < bytes.length) expect(code).toBe(undefined);
      got = Buffer.concat([got, tty.receive() as Buffer]);
      return got.length === bytes.length;
    });
    expect(await running.done).toBe(0);
    expect([running.out.text, running.err.text]).toEqual(['', '']);
    expect(got.equals(bytes)).toBe(true);
  });

  it('sees also through a terminal when the guest has taken the last byte, and of each sender its own bytes', async () => {
    const { host, env, file } = await bench();
    const name = 'org.example.tty';
    const { tty } = await host.plug({ name, connection: 'pty', path: file('line'), speakFirst: true });
    writeFileSync(file('config'), pattern(20_000));
    for (let times = 0; times < 2; times++) {
      const running = start(env, ['send', '1', name, file('config'), '--wait-consumed', '--timeout', '20']);
      expect((await guestTakes(tty, 20_000)).equals(pattern(20_000))).toBe(true);
      expect([await running.done, running.err.text]).toEqual([0, '']);
    }
  });

  it('says of a directory which one it is', async () => {
    const { xc, file } = await bench();
    expect(await xc('send', '1', NAME, file('.'))).toMatchObject({
      code: 2,
      err: `xenchannel: ${file('.')} is a directory: it cannot be sent [usage-invalid]\n`,
    });
  });

  it('exits with 6 and says how many bytes were left when the guest hangs', async () => {
    const { xc, file, host } = await bench();
    writeFileSync(file('config'), pattern(20_000));
    const { code, err } = await xc('send', '1', NAME, file('config'), '--wait-consumed', '--timeout', '0.5');
    expect(code).toBe(6);
    const [, left] = /the guest has not taken (\d+) of 20000 bytes within 0.5 s.*\[wait-timeout\]/.exec(err) ?? [];
    expect(Number(left)).toBe(20_000);
    expect(host.channel().unconsumedBytes).toBe(20_000);
  });

  it('exits with 6 when not even the daemon takes everything', async () => {
    const { env, file } = await bench();
    const pipe = new PassThrough();
    const running = start(env, ['send', '1', NAME, '--timeout', '0.5'], pipe);
    pipe.write(Buffer.alloc(4 * 1024 * 1024));
    expect(await running.done).toBe(6);
    expect(running.err.text).toMatch(/took \d+ bytes within 0.5 s; \d+ that were read were not sent/);
    expect(file('x')).toBeDefined();
  });

  it('delivers a pipe without waiting, after it has ended', async () => {
    const { env, tty } = await bench();
    const pipe = new PassThrough();
    const running = start(env, ['send', '1', NAME], pipe);
    pipe.end(pattern(3000));
    expect(await running.done).toBe(0);
    expect((await guestTakes(tty, 3000)).equals(pattern(3000))).toBe(true);
  });

  it('hands on what the guest says meanwhile', async () => {
    const { env, tty } = await bench();
    tty.send('kept for the next client');
    const pipe = new PassThrough();
    const running = start(env, ['send', '1', NAME], pipe);
    await until('it is there', () => running.out.text === 'kept for the next client');
    pipe.end();
    expect(await running.done).toBe(0);
  });

  it('exits with 4 when another client is writing', async () => {
    const { xc, host, path, file } = await bench();
    await host.client(path);
    await until('it is there', () => host.channel().hostOpen);
    writeFileSync(file('config'), 'x');
    expect(await xc('send', '1', NAME, file('config'))).toMatchObject({
      code: 4,
      err: expect.stringContaining('another client is writing'),
    });
  });

  it('exits with 8 when the channel goes meanwhile', async () => {
    const { env, host } = await bench();
    const running = start(env, ['send', '1', NAME], new PassThrough());
    await until('it is there', () => host.channel().hostOpen);
    await host.detach();
    expect(await running.done).toBe(8);
    expect(running.err.text).toContain('[channel-closed]');
  });

  it('shows on a terminal how far it is', async () => {
    const { env, file } = await bench();
    writeFileSync(file('config'), pattern(20_000));
    const running = start(env, ['send', '1', NAME, file('config'), '--wait-consumed', '--timeout', '0.6']);
    running.err.isTTY = true;
    expect(await running.done).toBe(6);
    const [, shown = '', ...others] = running.err.text.split('\r\x1b[K');
    expect(shown).toMatch(/^0% 0 bytes of 20 KiB(, 0 bytes\/s)?$/);
    // The last thing on the line is that it is cleared, before the error.
    expect(others.at(-1)).toMatch(/^xenchannel: /);
  });

  it('exits with 130 when it is interrupted, and leaves nothing running', async () => {
    const { env, host } = await bench();
    const running = start(env, ['send', '1', NAME, '--wait-consumed'], new PassThrough());
    await until('it is there', () => host.channel().hostOpen);
    running.interrupt();
    expect(await running.done).toBe(130);
    await until('it has gone', () => !host.channel().hostOpen);
  });
});

describe('xenchannel recv', () => {
  it('takes so many bytes, what was kept for it first', async () => {
    const { xc, tty, file, host } = await bench();
    const bytes = pattern(5000);
    tty.send(bytes.subarray(0, 3000));
    await until('they are kept', () => host.channel().spoolBytes === 3000);
    const running = xc('recv', '1', NAME, file('dump'), '--bytes', '5000', '--timeout', '10');
    await until('it is there', () => host.channel().hostOpen);
    tty.send(bytes.subarray(3000));
    expect(await running).toEqual({ code: 0, out: '', err: '' });
    expect(readFileSync(file('dump')).equals(bytes)).toBe(true);
  });

  it('exits with 4 while another client gets the output: it would miss some of it', async () => {
    const { xc, host, path, file } = await bench();
    writeFileSync(file('dump'), 'of yesterday');
    await host.client(path);
    await until('the other one is there', () => host.channel().hostOpen);
    expect(await xc('recv', '1', NAME, file('dump'), '--timeout', '0.3')).toMatchObject({
      code: 4,
      err: expect.stringMatching(/another client gets its output; .*--read-only' \[writer-present\]/),
    });
    expect(readFileSync(file('dump'), 'latin1')).toBe('of yesterday');
  });

  it('puts what came in place of what stood in the file, also nothing', async () => {
    const { xc, tty, file } = await bench();
    writeFileSync(file('dump'), 'of yesterday');
    tty.send('new');
    expect(await xc('recv', '1', NAME, file('dump'), '--bytes', '3', '--timeout', '10')).toMatchObject({ code: 0 });
    expect(readFileSync(file('dump'), 'latin1')).toBe('new');
    expect(await xc('recv', '1', NAME, file('dump'), '--timeout', '0.2')).toMatchObject({ code: 0 });
    expect(readFileSync(file('dump'), 'latin1')).toBe('');
  });

  it('exits with 6 when fewer came, and keeps them', async () => {
    const { xc, tty } = await bench();
    tty.send('abc');
    expect(await xc('recv', '1', NAME, '--bytes', '5', '--timeout', '0.3')).toMatchObject({
      code: 6,
      out: 'abc',
      err: expect.stringContaining('3 of 5 bytes came within 0.3 s'),
    });
  });

  it('ends in order without --bytes: when the time is over, or the channel', async () => {
    const { xc, tty, host } = await bench();
    tty.send('abc');
    expect(await xc('recv', '1', NAME, '--timeout', '0.3')).toEqual({ code: 0, out: 'abc', err: '' });
    const running = xc('recv', '1', NAME);
    await until('it is there', () => host.channel().hostOpen);
    await host.detach();
    expect(await running).toEqual({ code: 0, out: '', err: '' });
  });

  it('says how many bytes it took besides', async () => {
    const { xc, tty } = await bench();
    tty.send('abcdef');
    const { code, out, err } = await xc('recv', '1', NAME, '--bytes', '4', '--timeout', '5');
    expect([code, out]).toEqual([0, 'abcd']);
    expect(err).toBe('warning: 2 bytes behind the last one came with it and are lost\n');
  });
});

describe('xenchannel wait', () => {
  it('is done at once where it is so, and later where it comes to be so', async () => {
    const { xc, host } = await bench();
    expect(await xc('wait', '1', NAME, '--for', 'connected')).toMatchObject({ code: 0, err: '' });
    const waiting = xc('wait', '1', NAME, '--for', 'guest-open', '--timeout', '10', '--json');
    await host.store.write(`/local/domain/1/device/console/1/${KEY.guestOpen}`, '1');
    expect(JSON.parse((await waiting).out)).toMatchObject({ domid: 1, deviceId: 1, goal: 'guest-open' });
  });

  it('exits with 6 and says what is the case instead', async () => {
    const { xc } = await bench();
    expect(await xc('wait', '1', NAME, '--for', 'guest-open', '--timeout', '0.1')).toMatchObject({
      code: 6,
      err: expect.stringMatching(
        /guest-open of channel "org.example.a" of domain 1 \(guest1\), device 1 did not happen within 0.1 s: the frontend is connected \(4\), the backend connected \(4\)/,
      ),
    });
  });

  it('for consumed: until the guest has taken everything, or says what is left', async () => {
    const { xc, host, tty, path } = await bench();
    expect((await xc('wait', '1', NAME, '--for', 'consumed')).code).toBe(0);
    const client = await host.client(path);
    client.socket.end('x'.repeat(9000));
    await until('it is under way', () => host.channel().unconsumedBytes === 9000);
    expect(await xc('wait', '1', NAME, '--for', 'consumed', '--timeout', '0.1')).toMatchObject({
      code: 6,
      err: expect.stringContaining('has not taken 9000 bytes'),
    });
    const waiting = xc('wait', '1', NAME, '--for', 'consumed', '--timeout', '10');
    await guestTakes(tty, 9000);
    expect((await waiting).code).toBe(0);
  });

  it('exits with 3 when the channel goes meanwhile, and with 8 without a daemon', async () => {
    const { xc, host } = await bench();
    const waiting = xc('wait', '1', NAME, '--for', 'guest-open', '--timeout', '10');
    await host.detach();
    expect((await waiting).code).toBe(3);
    await host.attach();
    await host.host.stopDaemon();
    expect(await xc('wait', '1', NAME, '--for', 'consumed')).toMatchObject({ code: 8 });
  });

  it('knows only what it can wait for', async () => {
    expect(await cli({}, 'wait', '1', 'a', '--for', 'godot')).toMatchObject({ code: 2 });
    expect(await cli({}, 'wait', '1', 'a')).toMatchObject({ code: 2 });
  });
});

describe('xenchannel events', () => {
  it('shows what happens, one line each, until it is interrupted', async () => {
    const { env, host } = await bench();
    const running = start(env, ['events', 'guest1', '--since', '0']);
    await until('the past is there', () => running.out.text.includes('  connected'));
    await host.detach();
    await until('the end is there', () => running.out.text.includes('  gone'));
    expect(running.out.text).toMatch(/^\S+Z {2}connected {9}1\/1 org\.example\.a$/m);
    expect(running.out.text).toMatch(/^\S+Z {2}gone {14}1\/1 org\.example\.a {2}reason=.* fromGuestBytes=0/m);
    running.interrupt();
    expect(await running.done).toBe(0);
  });

  it('is JSON lines with --json, and ends after --count', async () => {
    const { xc } = await bench();
    const { code, out } = await xc('events', '--json', '--since', '0', '--count', '2');
    expect(code).toBe(0);
    const types = out
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { type: string }).type);
    expect(types).toEqual(['listening', 'missed', 'started', 'appeared']);
    const { id } = JSON.parse(out.trimEnd().split('\n').at(-1) ?? '') as { id: number };
    const behind = await xc('events', '--json', '--since', String(id), '--count', '1');
    expect(behind.out.split('\n')[1]).toContain('"type":"connected"');
    expect((await xc('events', '--since', '-1')).code).toBe(2);
  });

  it('exits with 6 when --timeout is over before --count', async () => {
    const { xc } = await bench();
    expect(await xc('events', '--count', '5', '--timeout', '0.1')).toMatchObject({
      code: 6,
      err: 'xenchannel: 0 of 5 events came within 0.1 s [wait-timeout]\n',
    });
    expect(await xc('events', '--timeout', '0.1')).toEqual({ code: 0, out: '', err: '' });
  });

  it('ends with the daemon, and exits with 8 where there is none', async () => {
    const { env, host, xc } = await bench();
    const running = start(env, ['events', '--json']);
    await until('it listens', () => running.out.text.includes('listening'));
    await host.host.stopDaemon();
    expect(await running.done).toBe(0);
    expect(running.out.text).toContain('"type":"stopping"');
    expect(await xc('events')).toMatchObject({ code: 8, err: expect.stringContaining('is the daemon running?') });
  });

  it('exits with 8 when the daemon dies', async () => {
    const { env, host } = await bench();
    const running = start(env, ['events', '--json']);
    await until('it listens', () => running.out.text.includes('listening'));
    await host.host.crashDaemon();
    expect(await running.done).toBe(8);
  });
});

describe('xenchannel status --watch', () => {
  it('without a terminal prints a line for each change, until it is interrupted', async () => {
    const { env, host, tty } = await bench();
    const running = start(env, ['status', '--watch']);
    await until('it begins', () => running.out.text.includes('no client, not known to be open, from guest 0 bytes'));
    tty.send('hello');
    await until('it is told', () => running.out.text.includes('from guest 5 bytes, to guest 0 bytes, spool 5 bytes'));
    await host.detach();
    await until('the end is told', () => running.out.text.includes('1/1: gone'));
    for (const line of running.out.text.trimEnd().split('\n')) expect(line).toMatch(/^\S+Z {2}1\/1/);
    running.interrupt();
    expect(await running.done).toBe(0);
  });

  it('redraws a terminal, also when the daemon goes and comes', async () => {
    const { env, host } = await bench();
    const running = start(env, ['status', '--watch']);
    running.out.isTTY = true;
    const screen = (): string => running.out.text.split('\x1b[H\x1b[J').at(-1) ?? '';
    await until('it is drawn', () => screen().includes('daemon: running'));
    await host.host.stopDaemon();
    await until('it is drawn', () => screen().includes('daemon: not running'));
    await host.host.startDaemon();
    await until('it is drawn', () => screen().includes('daemon: running'));
    running.interrupt();
    expect(await running.done).toBe(0);
  });

  it('is JSON lines with --json', async () => {
    const { env } = await bench();
    const running = start(env, ['status', '--watch', '--json']);
    await until('it begins', () => running.out.text.includes('\n'));
    expect(JSON.parse(running.out.text.split('\n')[0] ?? '')).toMatchObject({
      at: expect.any(String),
      domid: 1,
      name: NAME,
    });
    running.interrupt();
    expect(await running.done).toBe(0);
  });
});
