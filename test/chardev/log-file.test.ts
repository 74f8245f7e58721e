import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Logger } from '../../src/base/log.js';
import { LogFileChardev } from '../../src/chardev/log-chardev.js';
import { LogFile, type LogFileOptions, QUEUE_BYTES } from '../../src/chardev/log-file.js';
import { PREFIX_BYTES, renderLines } from '../../src/chardev/log-lines.js';
import { SocketChardev } from '../../src/chardev/socket.js';
import { TeeChardev } from '../../src/chardev/tee.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';
import { Recorder } from './recorder.js';

const AT = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const STAMP = '[2026-01-02T03:04:05.678Z] ';

function options(more: Partial<LogFileOptions> = {}) {
  const clock = new FakeClock(AT);
  const lines: string[] = [];
  const log: Logger = { log: (_level, msg) => void lines.push(msg), with: () => log };
  const path = more.path ?? join(temporaryDirectory(), 'guest.log');
  return { path, clock, log, lines, ...more };
}

async function serve(more: Partial<LogFileOptions> = {}) {
  const { lines, ...given } = options(more);
  const chardev = new LogFileChardev(given);
  const events = new Recorder();
  await chardev.open(events);
  onTestFinished(async () => void (await chardev.close()));
  return { chardev, events, lines, clock: given.clock as FakeClock, path: given.path };
}

const say = (chardev: LogFileChardev, text: string) => expect(chardev.write(Buffer.from(text))).toBe(text.length);
const text = (path: string) => readFileSync(path, 'latin1');
const logged = (chardev: LogFileChardev, bytes: number) =>
  until(`${bytes} bytes in the log`, () => chardev.figures()['loggedBytes'] === bytes);

/** A genuine end of space for this process: the kernel writes a part and then refuses. */
function limitFileSize(bytes: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`]);
}

describe('a log file chardev', () => {
  it('writes what it is given, to a file that only its owner and group read', async () => {
    const { chardev, path, events } = await serve();
    await events.untilClients(true);
    say(chardev, 'one\n');
    say(chardev, 'two\n');
    await chardev.close();
    expect(text(path)).toBe('one\ntwo\n');
    expect(statSync(path).mode & 0o777).toBe(0o640);
  });

  it('has the mode and owners asked for, below a directory that it makes', async () => {
    const top = temporaryDirectory();
    const path = join(top, 'dom5', 'log');
    await serve({ path, makeBelow: top, mode: 0o600, owner: 'daemon', group: '12' });
    const { mode, uid, gid } = statSync(path);
    expect([mode & 0o777, uid, gid]).toEqual([0o600, 1, 12]);
  });

  it('goes on where the one before it ended, in the middle of a line or not', async () => {
    const { path, chardev } = await serve({ timestamps: true });
    say(chardev, 'first\nsec');
    await chardev.close();
    const next = await serve({ path, timestamps: true });
    say(next.chardev, 'ond\nthird\n');
    await next.chardev.close();
    expect(text(path)).toBe(`${STAMP}first\n${STAMP}second\n${STAMP}third\n`);
  });

  it('turns the file over at its size, at the end of a line where there is one, and keeps so many', async () => {
    const { chardev, path } = await serve({ maxBytes: 4096, keep: 2 });
    const line = (number: number) => `${String(number).padStart(5, '0')}${'x'.repeat(94)}\n`;
    const all = Array.from({ length: 200 }, (_, number) => line(number)).join('');
    say(chardev, all);
    await logged(chardev, all.length);
    expect(readdirSync(join(path, '..')).sort()).toEqual(['guest.log', 'guest.log.1', 'guest.log.2']);
    const kept = text(`${path}.2`) + text(`${path}.1`) + text(path);
    expect(all.endsWith(kept)).toBe(true);
    for (const file of [`${path}.2`, `${path}.1`]) {
      expect(statSync(file).size).toBe(4000);
      expect(text(file).endsWith('\n')).toBe(true);
    }
    expect(chardev.figures()).toMatchObject({ rotations: 4, logDroppedBytes: 0 });
  });

  it('cuts no line in two between files when it stamps them', async () => {
    const { chardev, path } = await serve({ maxBytes: 4096, keep: 9, timestamps: true });
    const all = `${'y'.repeat(300)}\n`.repeat(40);
    say(chardev, all);
    await logged(chardev, all.length);
    const files = readdirSync(join(path, '..'));
    expect(files.length).toBe(4);
    for (const file of files) {
      expect(statSync(join(path, '..', file)).size).toBeLessThanOrEqual(4096);
      expect(text(join(path, '..', file))).toMatch(/^(\[2026-01-02T03:04:05\.678Z\] y{300}\n)+$/);
    }
  });

  it('never writes more than its size into one file, even without any line end', async () => {
    const { chardev, path } = await serve({ maxBytes: 5000, keep: 100 });
    const bytes = randomBytes(60_000).map((byte) => (byte === 0x0a ? 0 : byte));
    expect(chardev.write(bytes)).toBe(bytes.length);
    await logged(chardev, bytes.length);
    const files = readdirSync(join(path, '..'));
    for (const file of files) expect(statSync(join(path, '..', file)).size).toBeLessThanOrEqual(5000);
    const numbers = Array.from({ length: files.length - 1 }, (_, i) => files.length - 1 - i);
    const whole = Buffer.concat([...numbers.map((number) => readFileSync(`${path}.${number}`)), readFileSync(path)]);
    expect(whole.equals(bytes)).toBe(true);
  });

  it('begins a new file after somebody has moved the old one away', async () => {
    const { chardev, path } = await serve();
    say(chardev, 'old\n');
    await logged(chardev, 4);
    renameSync(path, `${path}-20260101`);
    say(chardev, 'new\n');
    await logged(chardev, 8);
    expect(text(path)).toBe('new\n');
    expect(text(`${path}-20260101`)).toBe('old\n');
  });

  it.each<[string, (path: string) => void]>([
    ['a symbolic link', (path) => symlinkSync(join(path, '..', 'other'), path)],
    ['a directory', (path) => mkdirSync(path)],
    ['a FIFO', (path) => execFileSync('mkfifo', [path])],
    ['a device', (path) => execFileSync('mknod', [path, 'c', '1', '3'])],
    ['a second name of a file', (path) => linkSync(join(path, '..', 'other'), path)],
    ['a file of somebody else', (path) => execFileSync('install', ['-o', 'daemon', '/dev/null', path])],
  ])('leaves %s alone', async (_what, put) => {
    const path = join(temporaryDirectory(), 'guest.log');
    writeFileSync(join(path, '..', 'other'), 'precious');
    put(path);
    await expect(serve({ path })).rejects.toMatchObject({ code: 'path-not-a-file' });
    expect(text(join(path, '..', 'other'))).toBe('precious');
  });

  it('survives a full disk: takes a bounded amount, tries again, and has written each byte once', async () => {
    const { chardev, path, clock, lines, events } = await serve();
    process.on('SIGXFSZ', () => {});
    onTestFinished(() => void process.removeAllListeners('SIGXFSZ'));
    const bytes = randomBytes(QUEUE_BYTES * 2);
    let taken = 0;
    limitFileSize(10_000);
    try {
      taken += chardev.write(bytes);
      await until('the failure', () => Number(chardev.figures()['failures']) > 0);
      expect(taken).toBe(QUEUE_BYTES);
      expect(chardev.write(bytes.subarray(taken))).toBe(0);
      // The part that fitted is taken back, so that nothing is there twice later.
      expect(statSync(path).size).toBe(0);
      for (let attempt = 2; attempt <= 4; attempt++) {
        clock.advance(30_000);
        await until(`failure ${attempt}`, () => Number(chardev.figures()['failures']) === attempt);
        expect(clock.pending).toBe(1);
      }
      expect(chardev.connected).toBe(true);
      expect(events.writable).toBe(0);
    } finally {
      limitFileSize('unlimited');
    }
    clock.advance(30_000);
    await until('room', () => events.writable > 0);
    taken += chardev.write(bytes.subarray(taken));
    await until('everything', () => {
      taken += chardev.write(bytes.subarray(taken));
      return chardev.figures()['loggedBytes'] === bytes.length;
    });
    expect(readFileSync(path).equals(bytes)).toBe(true);
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^log cannot be written: E/);
    expect(lines[1]).toBe('log can be written again');
    expect(chardev.figures()).toMatchObject({ logDroppedBytes: 0, logError: '' });
  });

  it('gives back at the end what a directory that is gone did not take', async () => {
    const directory = join(temporaryDirectory(), 'logs');
    mkdirSync(directory);
    const { chardev, clock } = await serve({ path: join(directory, 'guest.log'), timestamps: true });
    rmSync(directory, { recursive: true });
    say(chardev, 'nowhere to go, ');
    const tail = Buffer.from('at all');
    expect(Buffer.from(await chardev.close({ tail })).toString()).toBe('nowhere to go, at all');
    expect(clock.pending).toBe(0);
  });

  it('writes a tail that is larger than its queue', async () => {
    const { chardev, path } = await serve();
    const tail = randomBytes(QUEUE_BYTES * 3 + 17);
    expect(await chardev.close({ tail })).toHaveLength(0);
    expect(readFileSync(path).equals(tail)).toBe(true);
  });

  it('closes its descriptor in every kind of end', async () => {
    const descriptors = () => readdirSync('/proc/self/fd').length;
    const before = descriptors();
    const orderly = await serve();
    say(orderly.chardev, 'x');
    await orderly.chardev.close();
    const crashed = await serve();
    say(crashed.chardev, 'x');
    crashed.chardev.abandon();
    await until('all closed', () => descriptors() <= before);
  });
});

describe('renderLines', () => {
  it('puts a time before each line, however the text is cut and however little room there is', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('\n', 'a', 'bc\n', '\xff\x00'), { maxLength: 30 }),
        fc.integer({ min: PREFIX_BYTES + 1, max: 200 }),
        fc.integer({ min: 1, max: 20 }),
        (parts, room, step) => {
          const source = Buffer.from(parts.join(''), 'latin1');
          let written = '';
          let fresh = true;
          for (let at = 0; at < source.length; ) {
            const piece = renderLines(source.subarray(at, at + step), fresh, AT, room);
            expect(piece.bytes.length).toBeLessThanOrEqual(room);
            expect(piece.taken).toBeGreaterThan(0);
            written += piece.bytes.toString('latin1');
            at += piece.taken;
            fresh = piece.atLineStart;
          }
          const lines = source.toString('latin1').split(/(?<=\n)/);
          expect(written).toBe(source.length === 0 ? '' : lines.map((line) => STAMP + line).join(''));
        },
      ),
    );
  });

  it('takes nothing where not even one byte fits', () => {
    expect(renderLines(Buffer.from('x'), true, AT, PREFIX_BYTES)).toMatchObject({ taken: 0 });
  });
});

describe('a log beside a socket', () => {
  async function tee(more: Partial<LogFileOptions> = {}) {
    const { lines, ...given } = options(more);
    const socketPath = join(temporaryDirectory(), 'agent');
    const socket = new SocketChardev({ path: socketPath, clock: given.clock });
    const chardev = new TeeChardev(socket, new LogFile(given));
    const events = new Recorder();
    await chardev.open(events);
    onTestFinished(async () => void (await chardev.close()));
    return { chardev, events, lines, socketPath, path: given.path, clock: given.clock as FakeClock };
  }

  /** As a session hands on what a guest has said. */
  const guestSays = (chardev: TeeChardev, words: string) => {
    if (chardev.viewed) chardev.show(Buffer.from(words));
    return chardev.connected ? chardev.write(Buffer.from(words)) : 0;
  };

  it('has everything, whether a client is there or not, while the client is served as ever', async () => {
    const { chardev, events, socketPath, path } = await tee();
    expect(guestSays(chardev, 'before, ')).toBe(0);
    const client = connect(socketPath);
    onTestFinished(() => void client.destroy());
    let heard = '';
    client.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    await events.untilClients(true);
    client.write('hello guest');
    await events.untilReceived('hello guest');
    guestSays(chardev, 'during');
    await until('the client hears', () => heard === 'during');
    await chardev.close();
    expect(text(path)).toBe('before, during');
  });

  it('does not keep the channel from opening when it cannot be written, and counts what it misses', async () => {
    const directory = join(temporaryDirectory(), 'logs');
    const { chardev, socketPath, clock, lines, path } = await tee({ path: join(directory, 'guest.log') });
    expect(existsSync(socketPath)).toBe(true);
    guestSays(chardev, 'x'.repeat(QUEUE_BYTES));
    guestSays(chardev, 'too much');
    expect(chardev.figures()).toMatchObject({ logDroppedBytes: 8, logError: 'ENOENT' });
    mkdirSync(directory);
    chmodSync(directory, 0o700);
    clock.advance(30_000);
    await until('it is written', () => chardev.figures()['loggedBytes'] === QUEUE_BYTES);
    expect(statSync(path).size).toBe(QUEUE_BYTES);
    expect(lines).toEqual(['log cannot be written: ENOENT', 'log can be written again']);
  });
});
