import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { SocketIo, type SocketWatch } from '../../src/sys/socket-io.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';

const { EAGAIN } = constants.errno;

function fdOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

describe('sockets by system calls', () => {
  let io: SocketIo;
  let server: Server;
  let path: string;

  beforeEach(async () => {
    io = new SocketIo();
    path = join(temporaryDirectory(), 'socket');
    server = createServer({ pauseOnConnect: true });
    await new Promise<void>((resolve) => server.listen(path, resolve));
  });
  afterEach(() => {
    server.close();
    io.close();
  });

  async function pair(): Promise<{ near: Socket; far: Socket; fd: number }> {
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const far = connect(path);
    const [near] = await accepted;
    near.on('error', () => {});
    far.on('error', () => {});
    onTestFinished(() => {
      near.destroy();
      far.destroy();
    });
    return { near, far, fd: fdOf(near) };
  }

  async function pairsOf(count: number): Promise<Awaited<ReturnType<typeof pair>>[]> {
    const pairs = [];
    while (pairs.length < count) pairs.push(await pair());
    return pairs;
  }

  /** The lowest free number goes to the client's end, unless one below it is free as well. */
  async function pairWithNumber(fd: number): ReturnType<typeof pair> {
    for (let tries = 0; tries < 10; tries++) {
      const lower = openSync('/dev/null', 'r');
      const made = pair();
      closeSync(lower);
      const found = await made;
      if (found.fd === fd) return found;
      found.near.destroy();
      found.far.destroy();
      await Promise.all([once(found.near, 'close'), once(found.far, 'close')]);
    }
    throw new Error(`no socket got the number ${fd}`);
  }

  /** Everything that is read of it, with the number of bytes of each read. */
  function collect(fd: number): { text: string; reads: number[]; watch: SocketWatch } {
    const buffer = Buffer.alloc(1000);
    const found = { text: '', reads: [] as number[], watch: undefined as unknown as SocketWatch };
    found.watch = io.watch(fd, () => {
      const count = io.read(fd, buffer);
      if (count !== -EAGAIN) found.reads.push(count);
      if (count > 0) found.text += buffer.toString('latin1', 0, count);
      else if (count !== -EAGAIN) found.watch.pause();
    });
    return found;
  }

  it('carries what a hundred of them say', async () => {
    const pairs = await pairsOf(100);
    const found = pairs.map(({ fd }) => collect(fd));
    for (const [i, { far }] of pairs.entries()) far.write(`${i}`);
    await until('all have spoken', () => found.every(({ text }, i) => text === `${i}`));
    for (const { fd } of pairs) expect(io.write(fd, Buffer.from('answer'), 6)).toBe(6);
    const answers = await Promise.all(pairs.map(({ far }) => once(far, 'data') as Promise<[Buffer]>));
    expect(new Set(answers.map(([bytes]) => bytes.toString()))).toEqual(new Set(['answer']));
  });

  it('says once that the other side is gone, and what it said before', async () => {
    const { far, fd } = await pair();
    const found = collect(fd);
    far.end('last words');
    await until('the end', () => found.reads.includes(0));
    expect(found.text).toBe('last words');
    await new Promise((resolve) => setImmediate(resolve));
    expect(found.reads.filter((count) => count <= 0)).toEqual([0]);
  });

  it('leaves a paused one alone, and goes on with what came meanwhile', async () => {
    const { far, fd } = await pair();
    const other = await pair();
    const found = collect(fd);
    const witness = collect(other.fd);
    found.watch.pause();
    far.write('unheard');
    await new Promise((resolve) => far.write('!', resolve));
    other.far.write('heard');
    await until('the witness', () => witness.text === 'heard');
    expect(found.text).toBe('');
    found.watch.resume();
    await until('the rest', () => found.text === 'unheard!');
  });

  it('does not take a new socket for an old one of the same number', async () => {
    const first = await pair();
    const before = collect(first.fd);
    first.near.destroy();
    await once(first.near, 'close');
    before.watch.forget();
    const second = await pairWithNumber(first.fd);
    const after = collect(second.fd);
    second.far.write('new');
    await until('the new one', () => after.text === 'new');
    expect(before.reads).toEqual([]);
  });

  it('has callbacks and promises run that reading brought about', async () => {
    const { far, fd } = await pair();
    const ran: string[] = [];
    const buffer = Buffer.alloc(100);
    io.watch(fd, () => {
      io.read(fd, buffer);
      process.nextTick(() => ran.push('tick'));
      void Promise.resolve().then(() => ran.push('promise'));
    });
    far.write('x');
    await until('both', () => ran.includes('tick') && ran.includes('promise'));
  });

  it('lets timers run while somebody talks without pause', async () => {
    const pairs = await pairsOf(2);
    const buffer = Buffer.alloc(100);
    for (const { fd, far } of pairs) {
      const farFd = fdOf(far);
      io.watch(fd, () => {
        io.read(fd, buffer);
        // Each answer is the next question, and there is always another one.
        io.write(farFd, buffer, 1);
      });
      far.write('x');
    }
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(pairs.every(({ near }) => !near.destroyed)).toBe(true);
  });

  it('answers with the errno of what cannot be done', async () => {
    const { fd } = await pair();
    expect(io.read(fd, Buffer.alloc(10))).toBe(-EAGAIN);
    expect(io.read(999_999, Buffer.alloc(10))).toBe(-constants.errno.EBADF);
    expect(() => closeSync(999_999)).toThrow('EBADF');
  });
});
