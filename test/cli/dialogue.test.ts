/** connect on channels of the real daemon: looking on, coming late, taking over. */
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { HISTORY_FIRST_BYTES } from '../../src/backend/output-feed.js';
import type { MemoryTty } from '../../src/simulation/memory-tty.js';
import { DaemonHost } from '../support/daemon-host.js';
import { until } from '../support/until.js';
import { type CliRun, FakeTerminal, start } from './harness.js';

interface Bench {
  readonly host: DaemonHost;
  readonly tty: MemoryTty;
  readonly path: string;
  readonly connect: (stdin: PassThrough, ...options: string[]) => CliRun;
  /** Writes as the guest, and waits until the daemon has it. */
  readonly say: (text: string) => Promise<void>;
}

async function bench(): Promise<Bench> {
  const host = await DaemonHost.start();
  const { tty, path } = await host.plug({ speakFirst: true });
  const env = { XENSTORED_PATH: host.host.storePath, XENCHANNEL_RUNDIR: host.host.runDirectory, USER: 'alice' };
  const connect = (stdin: PassThrough, ...options: string[]): CliRun =>
    start(env, ['connect', '1', 'org.example.a', ...options], stdin);
  const say = async (text: string): Promise<void> => {
    const total = host.channel().fromGuestBytes + text.length;
    tty.send(text);
    await until('the daemon has it', () => host.channel().fromGuestBytes === total);
  };
  return { host, tty, path, connect, say };
}

const connected = (running: CliRun): Promise<void> =>
  until('it is connected', () => running.err.text.startsWith('connected to'));

describe('xenchannel connect --read-only', () => {
  it('is never the client, also when it comes first, and takes nothing from it', async () => {
    const { host, path, connect, say, tty } = await bench();
    await say('kept, ');
    const terminal = new FakeTerminal();
    const running = connect(terminal, '--read-only', '--from-start');
    await until('it shows what was kept', () => running.out.text === 'kept, ');
    expect(host.channel()).toMatchObject({ hostOpen: false, spoolBytes: 6 });
    const client = await host.client(path);
    await until('the client is the client', () => host.channel().hostOpen);
    await say('fresh');
    await until(
      'both have all',
      () => running.out.text === 'kept, fresh' && client.received.toString() === 'kept, fresh',
    );
    terminal.write('typed');
    client.socket.write('x');
    tty.openLine();
    let got = '';
    await until('the guest has what the client wrote', () => {
      got += tty.receive();
      return got !== '';
    });
    expect(got).toBe('x');
    terminal.write('\x1d');
    expect(await running.done).toBe(0);
    expect(client.ended).toBe(false);
  });

  it('shows only what is fresh without --from-start, and ends with the channel', async () => {
    const { host, connect, say } = await bench();
    await say('old');
    const running = connect(new FakeTerminal(), '--read-only');
    await connected(running);
    await say('new');
    await until('it is there', () => running.out.text === 'new');
    await host.detach();
    expect(await running.done).toBe(0);
    expect(running.out.text).toBe('new');
    expect(running.err.text).toContain('closed by the other side');
  });

  it('says what is not kept any more, and shows the rest', async () => {
    const { connect, say } = await bench();
    const text = Array.from({ length: 30_000 }, (_, index) => `line ${index}\n`).join('');
    for (let at = 0; at < text.length; at += 4000) await say(text.slice(at, at + 4000));
    const pipe = new PassThrough();
    const running = connect(pipe, '--read-only', '--from-start');
    await until('it shows the end', () => running.out.text.endsWith('line 29999\n'));
    const [, missed] = /\[(\d+) bytes are not kept any more\]/.exec(running.err.text) ?? [];
    expect(running.out.text.length + Number(missed)).toBe(text.length);
    expect(running.out.text.startsWith(text.slice(0, HISTORY_FIRST_BYTES))).toBe(true);
    running.interrupt();
    expect(await running.done).toBe(130);
  });

  it('exits with 8 where no daemon answers', async () => {
    const { host, connect } = await bench();
    await host.host.stopDaemon();
    const running = connect(new PassThrough(), '--read-only');
    expect(await running.done).toBe(8);
    expect(running.err.text).toContain('is the daemon running? [daemon-unreachable]');
  });
});

describe('xenchannel connect --since', () => {
  it('shows every byte from there on once, and writes', async () => {
    const { connect, say, tty } = await bench();
    await say('0123456789');
    const terminal = new FakeTerminal();
    const running = connect(terminal, '--since', '4');
    await until('the past is there', () => running.out.text === '456789');
    await say('abc');
    await until('the fresh bytes, too', () => running.out.text === '456789abc');
    terminal.write('hello');
    tty.openLine();
    let got = '';
    await until('the guest has it', () => {
      got += tty.receive();
      return got === 'hello';
    });
    terminal.write('\x1d');
    expect(await running.done).toBe(0);
    expect(running.out.text).toBe('456789abc');
  });
});

describe('xenchannel connect --since with an offset that the output has not reached', () => {
  it.each([[[]], [['--read-only']]])('exits with 3 and says how far it is, with %j', async (options) => {
    const { connect, say } = await bench();
    await say('0123456789');
    const running = connect(new FakeTerminal(), '--since', '11', ...options);
    expect(await running.done).toBe(3);
    expect(running.err.text).toMatch(/offset 11 has not been reached yet, the guest has sent 10 bytes \[range-gone\]/);
  });
});

describe('xenchannel connect where another client writes', () => {
  it('exits with 4 and says what else can be done', async () => {
    const { host, path, connect } = await bench();
    await host.client(path);
    await until('it is there', () => host.channel().hostOpen);
    const running = connect(new FakeTerminal());
    expect(await running.done).toBe(4);
    expect(running.err.text).toMatch(
      /another client is writing; look on with --read-only, or .*--force \[writer-present\]/,
    );
  });

  it('waits for one that has just gone without a word', async () => {
    const { host, path, connect } = await bench();
    const client = await host.client(path);
    await until('it is there', () => host.channel().hostOpen);
    // A half-closed connection is not read any more, so its end is only found by asking.
    client.socket.end();
    await new Promise((settle) => client.socket.once('finish', settle));
    client.socket.destroy();
    const terminal = new FakeTerminal();
    const running = connect(terminal);
    await connected(running);
    terminal.write('\x1d');
    expect(await running.done).toBe(0);
  });

  it('takes its place with --force, and the loser says who did', async () => {
    const { host, connect, tty } = await bench();
    const loserTerminal = new FakeTerminal();
    const loser = connect(loserTerminal);
    await until('it is there', () => host.channel().hostOpen);
    loserTerminal.write('before, ');
    await until('it is under way', () => host.channel().chardev['bytesFromWriter'] === 8);
    const terminal = new FakeTerminal();
    const running = connect(terminal, '--force');
    expect(await loser.done).toBe(4);
    expect(loser.err.text).toMatch(/: "alice \(process \d+\)" took over \[writer-present\]\n$/);
    expect(loserTerminal.modes).toEqual([true, false]);
    await connected(running);
    await until('the winner is there', () => host.channel().hostOpen);
    terminal.write('after');
    tty.openLine();
    let got = '';
    await until('the guest has both', () => {
      got += tty.receive();
      return got === 'before, after';
    });
    terminal.write('\x1d');
    expect(await running.done).toBe(0);
  });

  it('takes --force where nobody writes, too, but not with --read-only', async () => {
    const { connect } = await bench();
    const terminal = new FakeTerminal();
    const running = connect(terminal, '--force');
    await connected(running);
    terminal.write('\x1d');
    expect(await running.done).toBe(0);
    expect(await connect(new PassThrough(), '--force', '--read-only').done).toBe(2);
  });
});

describe('xenchannel connect --quit-after', () => {
  it('leaves when the pipe has ended and the guest is quiet, with the whole answer', async () => {
    const { connect, tty, host } = await bench();
    const pipe = new PassThrough();
    const running = connect(pipe, '--quit-after', '0.3');
    await until('it is there', () => host.channel().hostOpen);
    tty.openLine();
    pipe.end('question');
    let got = '';
    await until('the guest has the question', () => {
      got += tty.receive();
      return got === 'question';
    });
    tty.send('answer');
    expect(await running.done).toBe(0);
    expect([running.out.text, running.err.text]).toEqual(['answer', '']);
  });

  it('does not leave while stdin is open', async () => {
    const { connect, say, host } = await bench();
    const running = connect(new PassThrough(), '--quit-after', '0');
    await until('it is there', () => host.channel().hostOpen);
    await say('one');
    await say('two');
    await until('both are there', () => running.out.text === 'onetwo');
    running.interrupt();
    expect(await running.done).toBe(130);
  });
});

describe('xenchannel connect under a daemon that restarts', () => {
  it.each(['in order', 'after a crash'])('goes on where it was, %s', async (how) => {
    const { host, connect, say, tty } = await bench();
    const terminal = new FakeTerminal();
    const running = connect(terminal);
    await connected(running);
    await until('it is the client', () => host.channel().hostOpen);
    await say('before, ');
    await until('it came', () => running.out.text === 'before, ');
    await (how === 'in order' ? host.host.stopDaemon() : host.host.crashDaemon());
    tty.send('meanwhile, ');
    await until('it says so', () => running.err.text.includes('[the daemon has gone; for 30 s it may come back]'));
    await host.host.startDaemon();
    await until('it says so', () => running.err.text.includes('[connected again]'));
    await say('after');
    await until('all came once', () => running.out.text === 'before, meanwhile, after');
    terminal.write('typed');
    tty.openLine();
    let got = '';
    await until('the guest has it', () => {
      got += tty.receive();
      return got === 'typed';
    });
    terminal.write('\x1d');
    expect(await running.done).toBe(0);
  });

  it('ends with the channel, without waiting for anybody', async () => {
    const { host, connect } = await bench();
    const running = connect(new FakeTerminal());
    await connected(running);
    await until('it is the client', () => host.channel().hostOpen);
    await host.detach();
    expect(await running.done).toBe(0);
    expect(running.err.text).toContain('closed by the other side');
    expect(running.err.text).not.toContain('connected again');
  });
});
