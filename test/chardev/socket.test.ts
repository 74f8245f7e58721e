import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { ChardevEvents } from '../../src/chardev/chardev.js';
import { SocketChardev, type SocketChardevOptions } from '../../src/chardev/socket.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** What a session would see. */
class Recorder implements ChardevEvents {
  readonly input: Uint8Array[] = [];
  readonly returned: Uint8Array[] = [];
  readonly clients: boolean[] = [];
  writable = 0;
  onClient(connected: boolean): void {
    this.clients.push(connected);
  }
  onInput(bytes: Uint8Array): void {
    this.input.push(Buffer.from(bytes));
  }
  onWritable(): void {
    this.writable++;
  }
  onReturned(bytes: Uint8Array): void {
    this.returned.push(bytes);
  }
  onFailure(error: Error): void {
    throw error;
  }
  get received(): Buffer {
    return Buffer.concat(this.input);
  }
}

async function serve(options: Partial<SocketChardevOptions> = {}) {
  const directory = temporaryDirectory();
  const clock = new FakeClock();
  const path = options.path ?? join(directory, 'agent');
  const chardev = new SocketChardev({ path, clock, ...options });
  const events = new Recorder();
  await chardev.open(events);
  onTestFinished(async () => void (await chardev.close()));
  return { chardev, events, path, clock, directory };
}

async function dial(path: string): Promise<Socket & { received: () => Buffer }> {
  const socket = connect({ path, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => {});
  await new Promise((settle) => socket.once('connect', settle));
  return Object.assign(socket, { received: () => Buffer.concat(chunks) });
}

function socat(...args: string[]): ChildProcessWithoutNullStreams {
  const child = spawn('socat', args);
  onTestFinished(() => void child.kill());
  return child;
}

const exited = (child: ChildProcessWithoutNullStreams): Promise<number | null> =>
  new Promise((settle) => child.once('exit', settle));

describe('the path of a socket chardev', () => {
  it('gets mode 0660 by default, in a directory below the run directory that it makes', async () => {
    const runDirectory = temporaryDirectory();
    const { path } = await serve({ path: join(runDirectory, 'dom5', 'agent'), makeBelow: runDirectory });
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(statSync(join(runDirectory, 'dom5')).mode & 0o777).toBe(0o711);
  });

  it('gets the mode and the owners that were asked for', async () => {
    const { path } = await serve({ mode: 0o606, owner: 'daemon', group: '12' });
    const found = statSync(path);
    const daemon = readFileSync('/etc/passwd', 'utf8').match(/^daemon:[^:]*:(\d+):/m)?.[1];
    expect([found.mode & 0o777, String(found.uid), found.gid]).toEqual([0o606, daemon, 12]);
  });

  it('is refused for an owner that does not exist, and nothing is left behind', async () => {
    const directory = temporaryDirectory();
    await expect(serve({ path: join(directory, 'agent'), owner: 'nobody-at-all' })).rejects.toMatchObject({
      code: 'account-unknown',
    });
    expect(readdirSync(directory)).toEqual([]);
  });

  it('replaces the socket that a killed socat left', async () => {
    const path = join(temporaryDirectory(), 'agent');
    const old = socat('-u', `UNIX-LISTEN:${path}`, '-');
    await until('socat listens', () => existsSync(path));
    const gone = exited(old);
    old.kill('SIGKILL');
    await gone;
    const inode = lstatSync(path).ino;
    await serve({ path });
    expect(lstatSync(path).ino).not.toBe(inode);
    await dial(path);
  });

  it('is never taken from a server that lives', async () => {
    const path = join(temporaryDirectory(), 'agent');
    socat(`UNIX-LISTEN:${path},fork`, 'OPEN:/dev/null');
    // Its socket file is there a moment before anybody listens on it.
    let listens = false;
    await until('socat listens', () => {
      connect(path)
        .on('connect', function (this: Socket) {
          listens = true;
          this.destroy();
        })
        .on('error', () => {});
      return listens;
    });
    const inode = lstatSync(path).ino;
    await expect(serve({ path })).rejects.toMatchObject({ code: 'path-in-use' });
    expect(lstatSync(path).ino).toBe(inode);
  });

  it.each<[string, (path: string) => void]>([
    ['a regular file', (path) => writeFileSync(path, 'precious')],
    ['a directory', (path) => mkdirSync(path)],
  ])('is refused where %s stands, which is left alone', async (_what, make) => {
    const path = join(temporaryDirectory(), 'agent');
    make(path);
    await expect(serve({ path })).rejects.toMatchObject({ code: 'path-not-a-socket' });
    expect(lstatSync(path).isSocket()).toBe(false);
  });

  it('may have exactly 107 bytes', async () => {
    const directory = temporaryDirectory();
    const path = join(directory, 'n'.repeat(107 - directory.length - 1));
    expect(path).toHaveLength(107);
    await serve({ path });
    await dial(path);
    await expect(serve({ path: `${path}x` })).rejects.toMatchObject({ code: 'path-too-long' });
  });

  it('outlives the end of every other one in its directory, however short their names', async () => {
    const directory = temporaryDirectory();
    const names = [...'0123456789abcdef'];
    const opened: SocketChardev[] = [];
    for (const name of names) opened.push((await serve({ path: join(directory, name) })).chardev);
    for (const chardev of opened.slice(0, 8)) await chardev.close();
    expect(readdirSync(directory)).toEqual(names.slice(8));
  });

  it('works with a name of one byte at the end of the longest path', async () => {
    const top = temporaryDirectory();
    const directory = join(top, 'd'.repeat(105 - top.length - 1));
    const { path } = await serve({ path: join(directory, 'a'), makeBelow: top });
    expect(path).toHaveLength(107);
    await dial(path);
    expect(readdirSync(directory)).toEqual(['a']);
  });

  it('is refused where the directory is missing and not ours to make', async () => {
    const path = join(temporaryDirectory(), 'missing', 'agent');
    await expect(serve({ path })).rejects.toMatchObject({ code: 'system-call-failed', details: { errno: 'ENOENT' } });
  });

  it('is removed at the end, together with the directory that was made for it', async () => {
    const runDirectory = temporaryDirectory();
    const { chardev } = await serve({ path: join(runDirectory, 'dom5', 'agent'), makeBelow: runDirectory });
    await chardev.close();
    expect(readdirSync(runDirectory)).toEqual([]);
  });

  it('is left alone at the end when somebody else has put a socket there', async () => {
    const { chardev, path } = await serve();
    const { rmSync } = await import('node:fs');
    rmSync(path);
    const other = createServer().listen(path);
    onTestFinished(() => void other.close());
    await until('the other one listens', () => existsSync(path));
    await chardev.close();
    expect(existsSync(path)).toBe(true);
  });

  it('stays after a crash, and the next one takes it', async () => {
    const { chardev, path } = await serve();
    chardev.abandon();
    expect(lstatSync(path).isSocket()).toBe(true);
    await serve({ path });
    await dial(path);
  });

  it('can be used by a group without the right to list the directory', async () => {
    const { path, directory } = await serve({ mode: 0o666 });
    chmodSync(directory, 0o711);
    await dial(path);
  });
});

describe('the writing client', () => {
  it('gets what is written and gives what it sends', async () => {
    const { chardev, events, path } = await serve();
    const client = await dial(path);
    await until('the client is seen', () => chardev.connected);
    expect(chardev.write(Buffer.from('to the client'))).toBe(13);
    client.write('to the guest');
    await until('both arrived', () => client.received().length === 13 && events.received.length === 12);
    expect(client.received().toString()).toBe('to the client');
    expect(events.received.toString()).toBe('to the guest');
  });

  it('is nobody at first: write takes nothing', async () => {
    const { chardev } = await serve();
    expect(chardev.write(Buffer.from('lost?'))).toBe(0);
  });

  it('as socat that sends 64 KiB and closes at once loses nothing, however slowly the guest takes it', async () => {
    const { chardev, events, path, clock, directory } = await serve();
    const sent = randomBytes(65536);
    writeFileSync(join(directory, 'sent'), sent);
    const onInput = events.onInput.bind(events);
    events.onInput = (bytes) => {
      onInput(bytes);
      chardev.pauseInput();
      setImmediate(() => chardev.resumeInput());
    };
    expect(await exited(socat('-u', `OPEN:${join(directory, 'sent')}`, `UNIX-CONNECT:${path}`))).toBe(0);
    await until('all arrived', () => events.received.length >= sent.length);
    expect(sha(events.received)).toBe(sha(sent));
    await until('the client is gone', () => {
      clock.advance(1000);
      return !chardev.connected;
    });
  });

  it('that leaves unread answers behind loses nothing of what it sent', async () => {
    const { chardev, events, path } = await serve();
    const client = await dial(path);
    client.pause();
    await until('the client is seen', () => chardev.connected);
    chardev.pauseInput();
    const sent = randomBytes(100_000);
    await new Promise((settle) => client.write(sent, settle));
    expect(chardev.write(Buffer.alloc(5000))).toBe(5000);
    client.destroy();
    // The next answer finds nobody: an ordinary write would end the connection with all that waits in it.
    await until('a write notices', () => chardev.write(Buffer.alloc(10)) === 0 || !chardev.connected);
    chardev.resumeInput();
    await until('all arrived', () => events.received.length >= sent.length);
    expect(sha(events.received)).toBe(sha(sent));
    expect(events.clients).toEqual([true, false]);
  });

  it('that vanishes while a piece waits for it gets the piece returned to its successor, and its input is kept', async () => {
    const { chardev, events, path } = await serve();
    const client = await dial(path);
    client.pause();
    await until('the client is seen', () => chardev.connected);
    chardev.pauseInput();
    const sent = randomBytes(80_000);
    await new Promise((settle) => client.write(sent, settle));
    const offered = randomBytes(1024 * 1024);
    const taken = chardev.write(offered);
    expect(taken).toBeLessThan(offered.length);
    client.destroy();
    await until('it is missed', () => events.clients.length === 2);
    expect(Buffer.concat(events.returned)).toEqual(offered.subarray(taken - 4096, taken));
    chardev.resumeInput();
    await until('all arrived', () => events.received.length >= sent.length);
    expect(sha(events.received)).toBe(sha(sent));
  });

  it('that only ends its own sending still gets everything, and is missed when it goes', async () => {
    const { chardev, events, path, clock } = await serve();
    const client = await dial(path);
    client.end('a question');
    await until('the question arrived', () => events.received.length === 10);
    await new Promise((settle) => setImmediate(settle));
    expect(chardev.write(Buffer.from('an answer'))).toBe(9);
    await until('the answer arrived', () => client.received().length === 9);
    expect(chardev.connected).toBe(true);
    client.destroy();
    await until('it is missed', () => {
      clock.advance(1000);
      return !chardev.connected;
    });
    expect(clock.pending).toBe(0);
  });

  it('that has gone unseen makes room for the next one at once', async () => {
    const { chardev, events, path } = await serve();
    const first = await dial(path);
    first.pause();
    await until('the first is seen', () => chardev.connected);
    chardev.pauseInput();
    await new Promise((settle) => first.write('from the first', settle));
    first.destroy();
    await until('it has closed', () => first.closed);
    const second = await dial(path);
    second.write(', from the second');
    await until('the second is the writer', () => events.clients.length === 3);
    chardev.resumeInput();
    await until('both arrived', () => events.received.length === 31);
    expect(events.received.toString()).toBe('from the first, from the second');
    expect(events.clients).toEqual([true, false, true]);
  });

  it('that does not read is never waited for, and is told of as soon as it reads again', async () => {
    const { chardev, events, path } = await serve();
    const client = await dial(path);
    client.pause();
    await until('the client is seen', () => chardev.connected);
    const bytes = randomBytes(2 * 1024 * 1024);
    let taken = chardev.write(bytes);
    expect(taken).toBeGreaterThan(4096);
    expect(taken).toBeLessThan(bytes.length);
    expect(chardev.write(bytes.subarray(taken))).toBe(0);
    client.resume();
    while (taken < bytes.length) {
      const seen = events.writable;
      await until('there is room', () => events.writable > seen);
      taken += chardev.write(bytes.subarray(taken));
    }
    await until('all arrived', () => client.received().length === bytes.length);
    expect(sha(client.received())).toBe(sha(bytes));
  });

  it('sends nothing on while the input is paused', async () => {
    const { chardev, events, path } = await serve();
    const client = await dial(path);
    await until('the client is seen', () => chardev.connected);
    chardev.pauseInput();
    await new Promise((settle) => client.write(Buffer.alloc(50_000), settle));
    for (let turn = 0; turn < 20; turn++) await new Promise((settle) => setImmediate(settle));
    expect(events.received.length).toBe(0);
    chardev.resumeInput();
    await until('all arrived', () => events.received.length === 50_000);
  });
});

describe('a second client', () => {
  it('looks on: it sees what is shown, and the writer stays the writer', async () => {
    const { chardev, events, path } = await serve();
    const writer = await dial(path);
    await until('the writer is seen', () => chardev.connected);
    const viewer = socat('-u', `UNIX-CONNECT:${path}`, '-');
    const seen: Buffer[] = [];
    viewer.stdout.on('data', (chunk: Buffer) => seen.push(chunk));
    await until('the viewer is seen', () => chardev.viewed);
    chardev.show(Buffer.from('both see this'));
    chardev.write(Buffer.from('both see this'));
    writer.write('only I am heard');
    await until('all arrived', () => Buffer.concat(seen).length === 13 && events.received.length === 15);
    expect(writer.received().toString()).toBe('both see this');
    expect(events.clients).toEqual([true]);
  });

  it('is disconnected and counted when it writes, and its bytes go nowhere', async () => {
    const { chardev, events, path } = await serve();
    await dial(path);
    await until('the writer is seen', () => chardev.connected);
    const second = await dial(path);
    await until('the viewer is seen', () => chardev.viewed);
    second.write('let me in');
    await until('it is disconnected', () => second.readableEnded || second.closed);
    expect(events.received.length).toBe(0);
    expect(chardev.figures()).toMatchObject({ viewers: 0, viewersRefusedForWriting: 1, connected: true });
  });

  it('that is slow misses bytes, which are counted, while the writer gets all', async () => {
    const { chardev, path } = await serve();
    const writer = await dial(path);
    await until('the writer is seen', () => chardev.connected);
    const slow = await dial(path);
    slow.pause();
    await until('the viewer is seen', () => chardev.viewed);
    const piece = Buffer.alloc(65536, 7);
    for (let i = 1; i <= 32; i++) {
      chardev.show(piece);
      expect(chardev.write(piece)).toBe(piece.length);
      await until('the writer has it', () => writer.received().length === i * piece.length);
    }
    const { viewerDroppedBytes } = chardev.figures();
    expect(viewerDroppedBytes).toBeGreaterThan(1024 * 1024);
    slow.resume();
    await until('it got the rest', () => slow.received().length === 32 * piece.length - Number(viewerDroppedBytes));
  });

  it('is refused when sixteen others look on already', async () => {
    const { chardev, path } = await serve();
    await dial(path);
    await until('the writer is seen', () => chardev.connected);
    for (let i = 1; i <= 16; i++) {
      await dial(path);
      await until('the viewer is seen', () => chardev.figures()['viewers'] === i);
    }
    const refused = await dial(path);
    await until('it is refused', () => refused.readableEnded || refused.closed);
    expect(chardev.figures()).toMatchObject({ viewers: 16, refusedClients: 1 });
  });
});

describe('an orderly close', () => {
  it('hands over what clients wrote that came, and left, before they could be accepted', async () => {
    const { chardev, events, path } = await serve();
    // The event loop stands still meanwhile.
    const early = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    for (const word of early) spawnSync('sh', ['-c', `printf ${word} | socat -u - UNIX-CONNECT:${path}`]);
    await chardev.stopAccepting();
    await chardev.close();
    expect(events.received.toString()).toBe(early.join(''));
  });

  it('refuses whoever comes when it accepts no more, and serves who is there', async () => {
    const { chardev, events, path } = await serve();
    const client = await dial(path);
    await until('the client is seen', () => chardev.connected);
    const stopping = chardev.stopAccepting();
    expect(existsSync(path)).toBe(false);
    client.write('still served');
    await stopping;
    await until('it was heard', () => events.received.toString() === 'still served');
    expect(chardev.write(Buffer.from('and answered'))).toBe(12);
    await until('it was answered', () => client.received().toString() === 'and answered');
  });

  it('hands over everything the client was told to be accepted, and nothing else is accepted afterwards', async () => {
    const { chardev, events, path } = await serve();
    const client = await dial(path);
    await until('the client is seen', () => chardev.connected);
    chardev.pauseInput();
    // The sender counts what its own kernel has taken, with no queue of Node in between.
    const { writeSync } = await import('node:fs');
    const fd = (client as unknown as { _handle: { fd: number } })._handle.fd;
    const piece = randomBytes(1000);
    let accepted = 0;
    let refusal = '';
    const send = (): boolean => {
      try {
        accepted += writeSync(fd, piece);
        return true;
      } catch (error) {
        refusal = (error as NodeJS.ErrnoException).code ?? '';
        return false;
      }
    };
    for (let i = 0; i < 60; i++) send();
    const closing = chardev.close();
    while (send());
    await closing;
    expect(refusal).toBe('EPIPE');
    expect(accepted).toBeGreaterThanOrEqual(60_000);
    expect(events.received.length).toBe(accepted);
  });

  it('returns what a client that does not read was not given', async () => {
    const { chardev, path } = await serve();
    const client = await dial(path);
    client.pause();
    await until('the client is seen', () => chardev.connected);
    const bytes = randomBytes(1024 * 1024);
    const taken = chardev.write(bytes);
    const returned = await chardev.close({ tail: bytes.subarray(taken) });
    client.resume();
    await until('the client has seen the end', () => client.readableEnded || client.closed);
    expect(sha(Buffer.concat([client.received(), returned]))).toBe(sha(bytes));
    expect(returned.length).toBeGreaterThan(0);
  });

  it('waits for a client that reads slowly until it has the tail', async () => {
    const { chardev, path } = await serve();
    const client = await dial(path);
    client.pause();
    await until('the client is seen', () => chardev.connected);
    const bytes = randomBytes(1024 * 1024);
    const closing = chardev.close({ tail: bytes, lingerMs: 5000 });
    client.resume();
    expect((await closing).length).toBe(0);
    await until('all arrived', () => client.received().length === bytes.length);
    expect(sha(client.received())).toBe(sha(bytes));
  });

  it('does not wait longer than it was told for a client that does not read', async () => {
    const { chardev, path, clock } = await serve();
    const client = await dial(path);
    client.pause();
    await until('the client is seen', () => chardev.connected);
    const closing = chardev.close({ tail: Buffer.alloc(1024 * 1024), lingerMs: 5000 });
    expect(clock.pending).toBe(1);
    clock.advance(5000);
    expect((await closing).length).toBeGreaterThan(0);
    expect(clock.pending).toBe(0);
  });
});
