import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Logger } from '../../src/base/log.js';
import { BackOff } from '../../src/chardev/back-off.js';
import { InputBacklog, MAX_BACKLOG_BYTES } from '../../src/chardev/input-backlog.js';
import { FIRST_RETRY_MS, LAST_RETRY_MS, SocketClientChardev, STABLE_MS } from '../../src/chardev/socket-client.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';
import { Recorder } from './recorder.js';

type Peer = Socket & { received: () => Buffer };

/** A server of one connection after another. */
class Server1 {
  readonly peers: Peer[] = [];
  #server: Server;
  constructor(readonly path: string) {
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.on('error', () => {});
      this.peers.push(Object.assign(socket, { received: () => Buffer.concat(chunks) }));
    });
    onTestFinished(() => this.stop());
  }
  async start(): Promise<this> {
    await new Promise<void>((settle) => this.#server.listen(this.path, settle));
    return this;
  }
  stop(): void {
    for (const peer of this.peers) peer.destroy();
    this.#server.close();
  }
  async peer(number = 0): Promise<Peer> {
    await until(`peer ${number}`, () => this.peers.length > number);
    return this.peers[number] as Peer;
  }
}

async function dial(path = join(temporaryDirectory(), 'server'), random = () => 1) {
  const clock = new FakeClock();
  const lines: string[] = [];
  const log: Logger = { log: (_level, msg) => void lines.push(msg), with: () => log };
  const chardev = new SocketClientChardev({ path, clock, random, log });
  const events = new Recorder();
  await chardev.open(events);
  onTestFinished(async () => void (await chardev.close()));
  return { chardev, events, clock, path, lines };
}

const failures = (chardev: SocketClientChardev) => Number(chardev.figures()['failedConnects']);

describe('a connecting chardev', () => {
  it('carries bytes both ways', async () => {
    const server = await new Server1(join(temporaryDirectory(), 'server')).start();
    const { chardev, events } = await dial(server.path);
    await events.untilClients(true);
    const peer = await server.peer();
    peer.write('to the guest');
    await events.untilReceived('to the guest');
    expect(chardev.write(Buffer.from('to the host'))).toBe(11);
    await until('the server has it', () => peer.received().toString() === 'to the host');
    expect(chardev.figures()).toMatchObject({ connects: 1, bytesToClient: 11, bytesFromClient: 12, connected: true });
  });

  it('talks with a genuine socat that listens', async () => {
    const path = join(temporaryDirectory(), 'server');
    const socat = spawn('socat', [`UNIX-LISTEN:${path}`, 'EXEC:cat']);
    onTestFinished(() => void socat.kill());
    await until('socat listens', () => existsSync(path));
    const { chardev, events, clock } = await dial(path);
    // Between bind(2) and listen(2) it still refuses.
    await until('connected', () => {
      clock.advance(1000);
      return chardev.connected;
    });
    const bytes = randomBytes(5000);
    chardev.write(bytes);
    await until('the echo', () => events.received.length === bytes.length);
    expect(events.received.equals(bytes)).toBe(true);
  });

  it('waits longer after each failure up to a bound, says so once, and connects when there is a server', async () => {
    const { chardev, events, clock, path, lines } = await dial();
    let expectedMs = FIRST_RETRY_MS;
    for (let attempt = 1; attempt <= 12; attempt++) {
      await until(`failure ${attempt}`, () => failures(chardev) === attempt);
      clock.advance(expectedMs - 1);
      expect(clock.pending).toBe(1);
      clock.advance(1);
      expect(clock.pending).toBe(0);
      expectedMs = Math.min(2 * expectedMs, LAST_RETRY_MS);
    }
    expect(expectedMs).toBe(LAST_RETRY_MS);
    await until('failure 13', () => failures(chardev) === 13);
    expect(lines).toEqual(['the server cannot be reached: ENOENT']);
    expect(chardev.figures()).toMatchObject({ lastError: 'ENOENT', connected: false });
    await new Server1(path).start();
    clock.advance(LAST_RETRY_MS);
    await events.untilClients(true);
    expect(lines).toEqual(['the server cannot be reached: ENOENT', 'connected to the server']);
  });

  it('comes back soon to a server that restarts after a long time', async () => {
    const server = await new Server1(join(temporaryDirectory(), 'server')).start();
    const { events, clock, chardev } = await dial(server.path);
    await events.untilClients(true);
    clock.advance(STABLE_MS);
    server.stop();
    await events.untilClients(true, false);
    rmSync(server.path, { force: true });
    const next = await new Server1(server.path).start();
    clock.advance(FIRST_RETRY_MS);
    await events.untilClients(true, false, true);
    (await next.peer()).write('again');
    await events.untilReceived('again');
    expect(chardev.figures()).toMatchObject({ connects: 2, failedConnects: 0 });
  });

  it('does not hammer a server that hangs up at once', async () => {
    const server = await new Server1(join(temporaryDirectory(), 'server')).start();
    const { chardev, clock } = await dial(server.path);
    let waitedMs = FIRST_RETRY_MS;
    for (let round = 0; round < 9; round++) {
      (await server.peer(round)).destroy();
      await until('it is missed', () => !chardev.connected && clock.pending === 1);
      clock.advance(waitedMs - 1);
      expect(clock.pending).toBe(1);
      clock.advance(1);
      waitedMs = Math.min(2 * waitedMs, LAST_RETRY_MS);
    }
    expect(waitedMs).toBe(LAST_RETRY_MS);
  });

  it('hears what a server said before it left, though input was paused', async () => {
    const server = await new Server1(join(temporaryDirectory(), 'server')).start();
    const { chardev, events, clock } = await dial(server.path);
    await events.untilClients(true);
    chardev.pauseInput();
    const peer = await server.peer();
    await new Promise<void>((settle) => peer.write('last words', () => settle()));
    peer.destroy();
    await until('the loss is noticed', () => {
      clock.advance(1000);
      return events.clients.includes(false);
    });
    expect(events.input).toEqual([]);
    // The session may change its mind before it is called again.
    chardev.resumeInput();
    chardev.pauseInput();
    await new Promise((settle) => setImmediate(settle));
    expect(events.input).toEqual([]);
    chardev.resumeInput();
    await events.untilReceived('last words');
  });

  it('goes on writing to a server that has closed its half', async () => {
    const server = await new Server1(join(temporaryDirectory(), 'server')).start();
    const { chardev, events, clock } = await dial(server.path);
    await events.untilClients(true);
    const peer = await server.peer();
    peer.end('done speaking');
    await events.untilReceived('done speaking');
    clock.advance(5000);
    chardev.write(Buffer.from('still listening?'));
    await until('the server hears', () => peer.received().toString() === 'still listening?');
    expect(events.clients).toEqual([true]);
    peer.destroy();
    await until('it is missed', () => {
      clock.advance(1000);
      return !chardev.connected;
    });
  });

  it('takes no more than the server’s socket holds, and tells when there is room', async () => {
    const server = await new Server1(join(temporaryDirectory(), 'server')).start();
    const { chardev, events } = await dial(server.path);
    await events.untilClients(true);
    const peer = await server.peer();
    peer.pause();
    const bytes = randomBytes(2_000_000);
    let sent = chardev.write(bytes);
    expect(sent).toBeLessThan(bytes.length);
    expect(chardev.write(bytes)).toBe(0);
    peer.resume();
    let told = 0;
    await until(
      'everything',
      () => {
        if (events.writable > told) {
          told = events.writable;
          sent += chardev.write(bytes.subarray(sent));
        }
        return peer.received().length === bytes.length;
      },
      15_000,
    );
    expect(peer.received().equals(bytes)).toBe(true);
  });

  it('gives the tail within the linger and hands back the rest in order', async () => {
    const server = await new Server1(join(temporaryDirectory(), 'server')).start();
    const { chardev, events, clock } = await dial(server.path);
    await events.untilClients(true);
    const peer = await server.peer();
    peer.pause();
    const tail = randomBytes(2_000_000);
    const closing = chardev.close({ tail, lingerMs: 1000 });
    clock.advance(1000);
    const rest = await closing;
    expect(rest.length).toBeGreaterThan(0);
    peer.resume();
    await until('the server has its part', () => peer.received().length === tail.length - rest.length);
    expect(Buffer.concat([peer.received(), rest]).equals(tail)).toBe(true);
    expect(events.clients).toEqual([true, false]);
    expect(clock.pending).toBe(0);
  });

  it('ends while it waits for the next attempt, without a timer left', async () => {
    const { chardev, clock, events } = await dial();
    await until('a failure', () => failures(chardev) === 1);
    expect(Buffer.from(await chardev.close({ tail: Buffer.from('unheard') })).toString()).toBe('unheard');
    expect(clock.pending).toBe(0);
    expect(events.clients).toEqual([]);
  });

  it('refuses a path that no socket can have', async () => {
    await expect(dial(`/${'x'.repeat(107)}`)).rejects.toMatchObject({ code: 'path-too-long' });
  });
});

describe('BackOff', () => {
  it('stays within half and the whole of its bound', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 40 }), (randoms) => {
        const backOff = new BackOff({ firstMs: 100, lastMs: 5000, random: () => randoms[at] ?? 0 });
        let at = 0;
        for (; at < randoms.length; at++) {
          const boundMs = Math.min(100 * 2 ** at, 5000);
          const delayMs = backOff.next();
          expect(delayMs).toBeGreaterThanOrEqual(boundMs / 2);
          expect(delayMs).toBeLessThanOrEqual(boundMs);
        }
      }),
    );
  });
});

describe('InputBacklog', () => {
  it('keeps the order, whenever it is paused and resumed', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('push', 'pause', 'resume', 'deliver')), (steps) => {
        const got: number[] = [];
        let next = 0;
        const backlog = new InputBacklog((bytes) => got.push(...bytes));
        for (const step of steps) {
          if (step === 'push') backlog.push(Buffer.from([next++ & 0xff]));
          else if (step === 'pause') backlog.pause();
          else if (step === 'resume') backlog.resume();
          else backlog.deliver();
        }
        backlog.flush();
        expect(got).toEqual(Array.from({ length: next }, (_, i) => i & 0xff));
      }),
    );
  });

  it('stops handing over as soon as it is paused, and counts what is too much', () => {
    const got: number[] = [];
    const backlog = new InputBacklog((bytes) => {
      got.push(bytes.length);
      backlog.pause();
    });
    for (const size of [1, 2, 3]) backlog.push(Buffer.alloc(size));
    backlog.push(Buffer.alloc(MAX_BACKLOG_BYTES - 5));
    backlog.push(Buffer.alloc(1));
    expect(backlog.droppedBytes).toBe(1);
    backlog.resume();
    backlog.deliver();
    expect(got).toEqual([1, 2]);
    expect(backlog.bytes).toBe(MAX_BACKLOG_BYTES - 2);
  });
});
