import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { PtyChardev, type PtyChardevOptions } from '../../src/chardev/pty.js';
import { Pty } from '../../src/sys/pty.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';
import { Recorder } from './recorder.js';

const FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;

async function serve(options: Partial<PtyChardevOptions> = {}) {
  const clock = new FakeClock();
  const path = options.path ?? join(temporaryDirectory(), 'line');
  const chardev = new PtyChardev({ path, clock, ...options });
  const events = new Recorder();
  await chardev.open(events);
  onTestFinished(async () => void (await chardev.close()));
  return { chardev, events, path, clock };
}

/** A client in this process. */
function openLine(path: string): { fd: number; read(): string; write(text: string): void; close(): void } {
  const fd = openSync(path, FLAGS);
  let isOpen = true;
  const close = () => {
    if (isOpen) closeSync(fd);
    isOpen = false;
  };
  onTestFinished(close);
  return { fd, close, read: () => readAvailable(fd), write: (text) => void writeSync(fd, text, null, 'latin1') };
}

function readAvailable(fd: number): string {
  const bytes = Buffer.alloc(65536);
  let have = 0;
  try {
    for (;;) {
      const count = readSync(fd, bytes, have, bytes.length - have, null);
      if (count === 0) break;
      have += count;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
  }
  return bytes.toString('latin1', 0, have);
}

async function readUntil(line: { read(): string }, length: number): Promise<string> {
  let text = '';
  await until(`${length} bytes`, () => {
    text += line.read();
    return text.length >= length;
  });
  return text;
}

function run(command: string, args: string[]): ChildProcessWithoutNullStreams & { output: () => Buffer } {
  const child = spawn(command, args);
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  onTestFinished(() => void child.kill('SIGKILL'));
  return Object.assign(child, { output: () => Buffer.concat(chunks) });
}

const exited = (child: ChildProcessWithoutNullStreams): Promise<number | null> =>
  new Promise((settle) => child.once('exit', settle));

describe('the link of a PTY chardev', () => {
  it('leads to a PTY with the mode and owners asked for, below a directory that it makes', async () => {
    const top = temporaryDirectory();
    const path = join(top, 'dom5', 'line');
    const { chardev } = await serve({ path, makeBelow: top, mode: 0o606, owner: 'daemon', group: '12' });
    expect(readlinkSync(path)).toBe(chardev.tty);
    const { mode, uid, gid } = statSync(path);
    expect([mode & 0o777, uid, gid]).toEqual([0o606, 1, 12]);
    expect(statSync(join(top, 'dom5')).mode & 0o777).toBe(0o711);
  });

  it('is 0660 and of our own group unless it is asked otherwise, so that group tty has no access', async () => {
    const { path } = await serve();
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(statSync(path).gid).toBe(process.getegid?.());
  });

  it('goes with the channel, and the directory with its last channel', async () => {
    const top = temporaryDirectory();
    const path = join(top, 'dom5', 'line');
    const { chardev } = await serve({ path, makeBelow: top });
    await chardev.close();
    expect(existsSync(join(top, 'dom5'))).toBe(false);
  });

  it('is left alone at the end when it is somebody else’s by then', async () => {
    const { chardev, path } = await serve();
    execFileSync('ln', ['-sfn', '/dev/null', path]);
    await chardev.close();
    expect(readlinkSync(path)).toBe('/dev/null');
  });

  it.each<[string, (path: string) => void, string]>([
    ['a file', (path) => writeFileSync(path, 'precious'), 'path-not-a-link'],
    ['a directory', (path) => mkdirSync(path), 'path-not-a-link'],
    ['a link to a file', (path) => symlinkSync('/etc/passwd', path), 'path-not-a-link'],
    ['a link to a terminal that is no PTY', (path) => symlinkSync('/dev/null', path), 'path-not-a-link'],
  ])('is not made where %s stands', async (_what, put, code) => {
    const path = join(temporaryDirectory(), 'line');
    put(path);
    const before = lstatSync(path).ino;
    await expect(serve({ path })).rejects.toMatchObject({ code });
    expect(lstatSync(path).ino).toBe(before);
    if (lstatSync(path).isFile()) expect(readFileSync(path, 'utf8')).toBe('precious');
  });

  it('is not made where another one is served, and leaves no PTY behind', async () => {
    const { path, chardev } = await serve();
    const before = ownMasters();
    expect(before).toBeGreaterThan(0);
    await expect(serve({ path })).rejects.toMatchObject({ code: 'path-in-use' });
    expect(readlinkSync(path)).toBe(chardev.tty);
    expect(ownMasters()).toBe(before);
  });

  it('still counts as served after much has been read and written', async () => {
    const { path, chardev, events } = await serve();
    const line = openLine(path);
    await events.untilClients(true);
    line.write('x');
    await events.untilReceived('x');
    chardev.write(Buffer.from('y'));
    await readUntil(line, 1);
    await expect(serve({ path })).rejects.toMatchObject({ code: 'path-in-use' });
  });

  it('takes the place of a dangling link that a crash has left', async () => {
    const { path, chardev } = await serve();
    chardev.abandon();
    expect(lstatSync(path).isSymbolicLink()).toBe(true);
    const next = await serve({ path });
    expect(readlinkSync(path)).toBe(next.chardev.tty);
    expect(readdirSync(join(path, '..'))).toEqual(['line']);
  });

  it('takes the place of a link whose number belongs to a younger PTY of somebody else', async () => {
    const path = join(temporaryDirectory(), 'line');
    const first = new Pty({ mode: 'raw', holdSlave: false });
    symlinkSync(first.slavePath, path);
    const linkedMs = lstatSync(path).ctimeMs;
    first.close();
    // The kernel gives the lowest free number, such as the one just given back. Its time must differ from the link's.
    await until('the next tick of the file clock', () => {
      const probe = join(path, '..', 'tick');
      writeFileSync(probe, '');
      return statSync(probe).ctimeMs > linkedMs + 10;
    });
    const younger: Pty[] = [];
    onTestFinished(() => younger.forEach((pty) => void pty.close()));
    while (!existsSync(path)) younger.push(new Pty({ mode: 'cooked', holdSlave: true }));
    const itsNumber = readlinkSync(path);
    const { chardev } = await serve({ path });
    expect(readlinkSync(path)).toBe(chardev.tty);
    expect(chardev.tty).not.toBe(itsNumber);
  });

  it('says which user is unknown', async () => {
    await expect(serve({ owner: 'nobody-of-that-name' })).rejects.toMatchObject({ code: 'account-unknown' });
  });
});

describe('a PTY chardev', () => {
  it('is raw from the start, as stty sees it', async () => {
    const { path } = await serve();
    const words = execFileSync('stty', ['-F', path, '-a'], { encoding: 'utf8' }).split(/[\s;]+/);
    for (const flag of ['-icanon', '-echo', '-isig', '-opost', '-icrnl', '-ixon', 'cs8']) expect(words).toContain(flag);
  });

  it('carries all byte values both ways to socat', async () => {
    const { path, chardev, events } = await serve();
    const all = Buffer.from(Array.from({ length: 1024 }, (_, i) => i & 0xff));
    const socat = run('socat', ['-u', `FILE:${path},rawer`, 'STDOUT']);
    await events.untilClients(true);
    expect(chardev.write(all)).toBe(all.length);
    await until('socat has all', () => socat.output().length === all.length);
    expect(socat.output().equals(all)).toBe(true);
    const back = run('socat', ['-u', 'STDIN', `FILE:${path},rawer`]);
    back.stdin.end(all);
    await events.untilReceived(all.toString('latin1'));
  });

  it('tells of a client that comes and goes, and of the next one', async () => {
    const { path, chardev, events } = await serve();
    expect(chardev.connected).toBe(false);
    for (const expected of [
      [true, false],
      [true, false, true, false],
    ]) {
      const line = openLine(path);
      await until('client', () => chardev.connected);
      line.close();
      await events.untilClients(...expected);
      expect(chardev.connected).toBe(false);
    }
    expect(chardev.figures()).toMatchObject({ clients: 2, connected: false });
  });

  it('counts two programs on the line as one client until the last has gone', async () => {
    const { path, chardev, events } = await serve();
    const [one, two] = [openLine(path), openLine(path)];
    await events.untilClients(true);
    one.close();
    two.write('still here');
    await events.untilReceived('still here');
    expect(chardev.connected).toBe(true);
    two.close();
    await events.untilClients(true, false);
  });

  it('hears a client that has come, written and gone before anybody looked', async () => {
    const { path, events } = await serve();
    const line = openLine(path);
    line.write('a short word');
    line.close();
    await events.untilReceived('a short word');
  });

  it('takes nothing while nobody has the line open', async () => {
    const { chardev } = await serve();
    expect(chardev.write(Buffer.from('unheard'))).toBe(0);
  });

  it('gives back what a client has not read, in order, before it says that the client is gone', async () => {
    const { path, chardev, events } = await serve();
    const line = openLine(path);
    await events.untilClients(true);
    expect(chardev.write(Buffer.from('read this, not that'))).toBe(19);
    const head = Buffer.alloc(9);
    await until('the line is there', () => readAvailableInto(line.fd, head));
    events.onClientHook = () => expect(Buffer.concat(events.returned).toString()).toBe(', not that');
    line.close();
    await events.untilClients(true, false);
    expect(head.toString()).toBe('read this');
    expect(Buffer.concat(events.returned).toString()).toBe(', not that');
    expect(chardev.figures()).toMatchObject({ bytesToClient: 9 });
  });

  it('is not frozen by a client that reads nothing, and loses nothing of what it took', async () => {
    const { path, chardev, events } = await serve();
    const line = openLine(path);
    await events.untilClients(true);
    const bytes = randomBytes(300_000);
    let sent = 0;
    const push = () => {
      const startedMs = Date.now();
      sent += chardev.write(bytes.subarray(sent));
      expect(Date.now() - startedMs).toBeLessThan(1000);
    };
    push();
    expect(sent).toBeGreaterThan(0);
    // The kernel makes a little room of its own accord, while it moves bytes on; then nothing happens any more.
    let told = 0;
    for (let turn = 0; turn < 200; turn++) {
      await new Promise((settle) => setImmediate(settle));
      if (events.writable === told) continue;
      told = events.writable;
      push();
    }
    expect(sent).toBeLessThan(100_000);
    expect(told).toBeLessThan(20);
    const toldUnread = told;
    const received = createHash('sha256');
    let have = 0;
    await until(
      'all bytes',
      () => {
        const text = line.read();
        have += text.length;
        received.update(text, 'latin1');
        if (events.writable > told) {
          told = events.writable;
          push();
        }
        return have === bytes.length;
      },
      15_000,
    );
    expect(received.digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'));
    expect(told).toBeGreaterThan(toldUnread);
  });

  it('does not spin while nobody has the line open', async () => {
    const { path, events, chardev } = await serve();
    const line = openLine(path);
    await events.untilClients(true);
    line.close();
    await events.untilClients(true, false);
    const before = process.cpuUsage();
    const startMs = Date.now();
    await new Promise((settle) => setTimeout(settle, 200));
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000 / (Date.now() - startMs)).toBeLessThan(0.5);
    expect(chardev.connected).toBe(false);
  });

  it('stops reading while it is paused, and gives all of it afterwards, though the client has gone', async () => {
    const { path, chardev, events } = await serve();
    chardev.pauseInput();
    const line = openLine(path);
    await events.untilClients(true);
    line.write('first ');
    line.write('second');
    line.close();
    await events.untilClients(true, false);
    expect(events.input).toEqual([]);
    chardev.resumeInput();
    expect(events.input).toEqual([]);
    await events.untilReceived('first second');
  });

  it('makes a writing client wait while it is paused', async () => {
    const { path, chardev, events } = await serve();
    events.onInputHook = () => chardev.pauseInput();
    const bytes = randomBytes(400_000);
    const socat = run('socat', ['-u', 'STDIN', `FILE:${path},rawer`]);
    const finished = exited(socat);
    socat.stdin.end(bytes);
    let resumed = 0;
    await until(
      'all bytes',
      () => {
        // One more buffer for each time that it was resumed, never more.
        expect(events.input.length).toBeLessThanOrEqual(resumed + 1);
        if (events.input.length > resumed) {
          resumed++;
          chardev.resumeInput();
        }
        return events.received.length === bytes.length;
      },
      15_000,
    );
    expect(events.received.equals(bytes)).toBe(true);
    expect(await finished).toBe(0);
  });

  it('is raw again after a client that has left it cooked', async () => {
    const { path, chardev, events } = await serve();
    execFileSync('stty', ['-F', path, 'sane']);
    await until('raw again', () => chardev.figures()['modeResets'] === 1);
    const line = openLine(path);
    await until('client', () => chardev.connected);
    events.input.length = 0;
    chardev.write(Buffer.from('no echo\n'));
    expect(await readUntil(line, 8)).toBe('no echo\n');
    line.write('!');
    await events.untilReceived('!');
  });

  it('serves the next client after a session leader had it as its terminal and hung it up', async () => {
    const { path, chardev, events } = await serve();
    // A shell that opens a terminal without O_NOCTTY in a session of its own; its end is a vhangup.
    execFileSync('setsid', ['sh', '-c', `exec 3<>${path}; printf hello >&3`]);
    await events.untilReceived('hello');
    await until('gone', () => !chardev.connected);
    const line = openLine(path);
    await until('next client', () => chardev.connected);
    chardev.write(Buffer.from('next\n'));
    expect(await readUntil(line, 5)).toBe('next\n');
    line.write('me too');
    await events.untilReceived('hellome too');
    expect(execFileSync('stty', ['-F', path, '-a'], { encoding: 'utf8' })).toContain('-echo ');
  });
});

describe('the end of a PTY chardev', () => {
  it('gives a reading client the tail before it hangs up', async () => {
    const { path, chardev, events, clock } = await serve();
    const cat = run('cat', [path]);
    const finished = exited(cat);
    await events.untilClients(true);
    const tail = Buffer.from('last words\n'.repeat(4000));
    let rest: Uint8Array | undefined;
    const closing = chardev.close({ tail, lingerMs: 60_000 }).then((unread) => {
      rest = unread;
    });
    await until(
      'the end of the linger',
      () => {
        clock.advance(1);
        return rest !== undefined;
      },
      15_000,
    );
    await closing;
    expect(rest).toHaveLength(0);
    // EIO or end of file: GNU cat calls the first an error.
    await finished;
    expect(cat.output().equals(tail)).toBe(true);
    expect(events.clients).toEqual([true, false]);
  });

  it('returns what a client has not read: what it took first, then the tail', async () => {
    const { path, chardev, events, clock } = await serve();
    openLine(path);
    await events.untilClients(true);
    chardev.write(Buffer.from('taken but unread, '));
    const tail = Buffer.from('tail'.repeat(20_000));
    const closing = chardev.close({ tail, lingerMs: 1000 });
    clock.advance(500);
    let rest: Uint8Array | undefined;
    void closing.then((bytes) => {
      rest = bytes;
    });
    await until('the linger is over', () => {
      clock.advance(100);
      return rest !== undefined;
    });
    expect(Buffer.from(rest ?? []).equals(Buffer.concat([Buffer.from('taken but unread, '), tail]))).toBe(true);
    expect(chardev.figures()).toMatchObject({ bytesToClient: 0 });
    expect(clock.pending).toBe(0);
  });

  it('does not wait for a client that goes away during the linger', async () => {
    const { path, chardev, events, clock } = await serve();
    const line = openLine(path);
    await events.untilClients(true);
    const closing = chardev.close({ tail: Buffer.from('unheard'), lingerMs: 60_000 });
    line.close();
    clock.advance(20);
    expect(Buffer.from(await closing).toString()).toBe('unheard');
  });

  it('hands over all that a client was told to be accepted, paused or not', async () => {
    const { path, chardev, events } = await serve();
    chardev.pauseInput();
    const line = openLine(path);
    await events.untilClients(true);
    let accepted = 0;
    try {
      for (;;) accepted += writeSync(line.fd, Buffer.alloc(1000, 0x61));
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('EAGAIN');
    }
    expect(accepted).toBeGreaterThan(4000);
    await chardev.close();
    expect(events.received.length).toBe(accepted);
    expect(events.clients).toEqual([true, false]);
    expect(() => writeSync(line.fd, 'x')).toThrow(/EIO/);
    expect(readSync(line.fd, Buffer.alloc(1))).toBe(0);
  });

  it('accepts nothing more from a client that goes on writing', async () => {
    const { path, chardev, events } = await serve();
    const line = openLine(path);
    await events.untilClients(true);
    let late: string | undefined;
    events.onInputHook = () => {
      try {
        writeSync(line.fd, 'too late');
      } catch (error) {
        late = (error as NodeJS.ErrnoException).code;
      }
    };
    chardev.pauseInput();
    line.write('in time');
    await chardev.close();
    expect(events.received.toString()).toBe('in time');
    expect(late).toBe('EAGAIN');
  });

  it('a crash leaves the link, and the next daemon takes its place', async () => {
    const { path, chardev, events } = await serve();
    const line = openLine(path);
    await events.untilClients(true);
    chardev.abandon();
    expect(readSync(line.fd, Buffer.alloc(1))).toBe(0);
    expect(events.clients).toEqual([true]);
    const next = await serve({ path });
    expect(readlinkSync(path)).toBe(next.chardev.tty);
  });
});

/** PTY masters of this process. */
function ownMasters(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).endsWith('ptmx');
    } catch {
      return false;
    }
  }).length;
}

function readAvailableInto(fd: number, target: Buffer): boolean {
  try {
    return readSync(fd, target, 0, target.length, null) === target.length;
  } catch {
    return false;
  }
}
