/** The agent on real terminals and a real xenstore socket, with applications that are programs of their own. */
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/log.js';
import { GuestAgent, type GuestAgentOptions } from '../../src/guest/agent.js';
import { CASES } from './cases.js';
import { ALL_BYTES, collect, linksIn, reader, received, writeFileInto } from './programs.js';
import { PtyGuest } from './pty-guest.js';

let nonces = 0;
const random = (bytes: number): Uint8Array => Buffer.alloc(bytes, ++nonces);

async function startGuest(): Promise<PtyGuest> {
  const guest = await PtyGuest.start();
  onTestFinished(() => guest.stop());
  return guest;
}

async function startAgent(
  guest: PtyGuest,
  options: GuestAgentOptions = {},
  clock: Clock = systemClock,
): Promise<GuestAgent> {
  const store = await guest.connect();
  const agent = await GuestAgent.start({ store, root: guest.root, clock, log: silentLogger, random, options });
  onTestFinished(async () => {
    await agent.stop();
    await store.close();
  });
  return agent;
}

/** Resolves when the agent's list satisfies `fn`. */
function whenAgent(agent: GuestAgent, fn: () => boolean): Promise<void> {
  return new Promise((done) => {
    const look = (): void => {
      if (!fn()) return;
      end();
      done();
    };
    const end = agent.onChange(look);
    look();
  });
}

describe('the agent on real terminals links', () => {
  it.each(CASES)('$title', async ({ consoles, unplug = [], links }) => {
    const guest = await startGuest();
    for (const { deviceId, ...options } of consoles) await guest.plug(deviceId, options);
    for (const deviceId of unplug) await guest.unplug(deviceId);
    const agent = await startAgent(guest, { answerTimeoutMs: 300 });
    const expected = Object.entries(links).map(([name, id]) => [name, `../hvc${guest.index(id)}`]);
    expect(linksIn(guest.root)).toEqual(Object.fromEntries(expected));
    await agent.stop();
    expect(linksIn(guest.root)).toEqual({});
  });
});

describe('a program that opens the link', () => {
  it('gets all 256 byte values unchanged, and nothing else', async () => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: 'a' });
    await startAgent(guest);
    const program = await reader(join(guest.root, 'dev/xenchannel/a'));
    const bytes = collect(program, ALL_BYTES.length);
    expect(pty.write(ALL_BYTES)).toBe(ALL_BYTES.length);
    expect(await bytes).toEqual(ALL_BYTES);
    expect(pty.read(Buffer.alloc(16))).toBe(0); // no echo
  });

  it('sends all 256 byte values unchanged', async () => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: 'a' });
    await startAgent(guest);
    const file = join(guest.root, 'bytes');
    writeFileSync(file, ALL_BYTES);
    const bytes = received(pty, (all) => all.length >= ALL_BYTES.length);
    writeFileInto(file, join(guest.root, 'dev/xenchannel/a'));
    expect(await bytes).toEqual(ALL_BYTES);
  });

  it('keeps its line, its raw mode and its bytes over a restart of the agent', async () => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: 'a' });
    const first = await startAgent(guest);
    const program = await reader(join(guest.root, 'dev/xenchannel/a'));
    await first.stop();
    const between = collect(program, ALL_BYTES.length * 2);
    pty.write(ALL_BYTES);
    const second = await startAgent(guest);
    expect(second.channels()[0]).toMatchObject({ tty: '/dev/hvc1', sure: 'proved', how: 'recorded' });
    pty.write(ALL_BYTES);
    expect(await between).toEqual(Buffer.concat([ALL_BYTES, ALL_BYTES]));
    expect(await guest.claim(1)).toBe('1');
    expect(program.exitCode).toBeNull();
  });

  it('finds its bytes when they came before it opened the link', async () => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: 'a' });
    await startAgent(guest);
    pty.write(ALL_BYTES);
    const program = await reader(join(guest.root, 'dev/xenchannel/a'));
    expect(await collect(program, ALL_BYTES.length)).toEqual(ALL_BYTES);
    expect(pty.read(Buffer.alloc(16))).toBe(0);
  });
});

describe('the agent where koffi is not installed', () => {
  it('makes the line raw through stty and proves it by looking from time to time', async () => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: 'a' });
    const agent = await startAgent(guest, { nativeCalls: false });
    expect(agent.channels()[0]).toMatchObject({ tty: '/dev/hvc1', sure: 'proved', how: 'answer' });
    const program = await reader(join(guest.root, 'dev/xenchannel/a'));
    const bytes = collect(program, ALL_BYTES.length);
    pty.write(ALL_BYTES);
    expect(await bytes).toEqual(ALL_BYTES);
    expect(pty.read(Buffer.alloc(16))).toBe(0); // no echo
  });
});

describe('the agent on real terminals', () => {
  it('follows plugging and unplugging while it runs', async () => {
    const guest = await startGuest();
    const agent = await startAgent(guest);
    await guest.plug(3, { name: 'a' });
    await guest.plug(2, { name: 'b' });
    await whenAgent(
      agent,
      () => agent.channels().every(({ links }) => links.length === 2) && agent.channels().length === 2,
    );
    expect(linksIn(guest.root)).toEqual({ a: '../hvc1', b: '../hvc2' });
    await guest.unplug(3);
    await whenAgent(agent, () => agent.channels().length === 1);
    expect(linksIn(guest.root)).toEqual({ b: '../hvc2' });
    await guest.plug(4, { name: 'c' });
    await whenAgent(agent, () => agent.channels().some(({ name, links }) => name === 'c' && links.length === 2));
    expect(linksIn(guest.root)).toEqual({ b: '../hvc2', c: '../hvc1' });
  });

  it('does not open a line that another program has open', async () => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: 'a' });
    const program = await reader(join(guest.root, 'dev/hvc1'));
    const agent = await startAgent(guest);
    expect(agent.channels()[0]?.problem).toMatchObject({ code: 'line-busy' });
    expect(agent.channels()[0]?.problem?.sentence).toContain(`process ${program.pid} (cat)`);
    expect(pty.mode).toBe('cooked');
  });

  it('does not touch the primary console', async () => {
    const guest = await startGuest();
    await guest.plug(1, { name: 'a' });
    await startAgent(guest);
    expect(guest.lines[0]?.mode).toBe('cooked');
    expect(guest.lines[0]?.isSlaveOpen()).toBe(false);
  });

  it('does not write into a file that stands in the place of a line', async () => {
    const guest = await startGuest();
    await guest.plug(1, { name: 'a' });
    const line = join(guest.root, 'dev/hvc1');
    rmSync(line);
    writeFileSync(join(guest.root, 'file'), '');
    symlinkSync('../file', line);
    const agent = await startAgent(guest, { answerTimeoutMs: 50 });
    expect(agent.channels()[0]?.problem?.sentence).toContain('is no terminal');
    expect(linksIn(guest.root)).toEqual({});
  });

  it('reads nothing of what waits for an application on a line it asks about', async () => {
    const guest = await startGuest();
    const waiting = await guest.plug(1, { name: 'q', type: 'ioemu', answers: 'never' });
    waiting.write(Buffer.from('X marks the spot'));
    await guest.plug(2, { name: 'ours' });
    const agent = await startAgent(guest);
    expect(agent.channels().map(({ tty, sure }) => [tty, sure])).toEqual([
      ['/dev/hvc1', 'deduced'],
      ['/dev/hvc2', 'proved'],
    ]);
    const program = await reader(join(guest.root, 'dev/xenchannel/q'));
    expect(String(await collect(program, 16))).toBe('X marks the spot');
  });
});

describe('the unmodified qemu-guest-agent', () => {
  const NAME = 'org.qemu.guest_agent.0';

  it.each([
    ['isa-serial', 'xenchannel'],
    ['virtio-serial', 'virtio-ports'],
  ])('answers through the channel by its method %s', async (method, directory) => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: NAME });
    await startAgent(guest, { virtioPorts: true });
    const state = join(guest.root, 'state');
    mkdirSync(state);
    const path = join(guest.root, 'dev', directory, NAME);
    const answer = received(pty, (bytes) => bytes.includes('\n'));
    const child = spawn('qemu-ga', [
      `--method=${method}`,
      `--path=${path}`,
      `--statedir=${state}`,
      `--pidfile=${state}/p`,
    ]);
    onTestFinished(() => {
      child.kill();
    });
    // Not before it has opened the line: isa-serial throws away what waits there (qemu:qga/channel-posix.c, tcflush).
    await guest.untilOpenIn(child.pid ?? 0, 1);
    pty.write(Buffer.from('{"execute":"guest-sync","arguments":{"id":4711}}\n'));
    expect(JSON.parse(String(await answer))).toEqual({ return: 4711 });
  });
});
