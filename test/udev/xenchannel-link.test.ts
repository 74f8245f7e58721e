/** The shell helper against genuine xenstore-utils, stty and real terminals, under both shells that guests have. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CASES } from '../guest/cases.js';
import { ALL_BYTES, collect, linksIn, reader, received, writeFileInto } from '../guest/programs.js';
import { PtyGuest } from '../guest/pty-guest.js';

const HELPER = fileURLToPath(new URL('../../udev/xenchannel-link', import.meta.url));
const SHELLS: readonly (readonly [string, ...string[]])[] = [['dash'], ['busybox', 'sh']];

class Helper {
  readonly child: ChildProcess;
  stderr = '';
  readonly #guest: PtyGuest;
  readonly #exited: Promise<number | null>;

  constructor(guest: PtyGuest, [shell, ...first]: readonly [string, ...string[]], parameters: readonly string[]) {
    this.#guest = guest;
    this.child = spawn(shell, [...first, HELPER, ...parameters], {
      env: { PATH: process.env['PATH'], XENSTORED_PATH: guest.socket, XENCHANNEL_ROOT: guest.root },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.child.stderr?.on('data', (text) => {
      this.stderr += text;
    });
    this.#exited = new Promise((done) => this.child.on('exit', done));
  }

  /** Resolves when the helper has looked at everything at least `count` times. */
  async passes(count = 1): Promise<void> {
    const record = join(this.#guest.root, 'run/xenchannel-link/lines');
    for (;;) {
      const pass = existsSync(record) ? Number(/^# pass (\d+)/.exec(readFileSync(record, 'utf8'))?.[1]) : 0;
      if (pass >= count) return;
      if (this.child.exitCode !== null) throw new Error(`helper ended: ${this.stderr}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  async says(text: string): Promise<void> {
    while (!this.stderr.includes(text)) {
      if (this.child.exitCode !== null) throw new Error(`helper ended: ${this.stderr}`);
      await new Promise((done) => this.child.stderr?.once('data', done));
    }
  }

  exited(): Promise<number | null> {
    return this.#exited;
  }

  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    return this.#exited;
  }
}

async function startGuest(): Promise<PtyGuest> {
  const guest = await PtyGuest.start();
  onTestFinished(() => guest.stop());
  return guest;
}

describe.each(SHELLS.map((shell) => ({ shell })))('xenchannel-link under $shell', ({ shell }) => {
  it.concurrent.for(CASES)('links: $title', async ({ consoles, unplug = [], links }, { onTestFinished }) => {
    const guest = await PtyGuest.start();
    onTestFinished(() => guest.stop());
    for (const { deviceId, ...options } of consoles) await guest.plug(deviceId, options);
    for (const deviceId of unplug) await guest.unplug(deviceId);
    const helper = new Helper(guest, shell, ['run']);
    await helper.passes();
    const expected = Object.entries(links).map(([name, id]) => [name, `../hvc${guest.index(id)}`]);
    expect(linksIn(guest.root), helper.stderr).toEqual(Object.fromEntries(expected));
    expect(await helper.stop()).toBe(0);
    expect(linksIn(guest.root)).toEqual({});
  });

  it('carries all 256 byte values unchanged both ways', async () => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: 'a' });
    const helper = new Helper(guest, shell, ['run']);
    await helper.passes();
    const link = join(guest.root, 'dev/xenchannel/a');
    const out = received(pty, (bytes) => bytes.length >= ALL_BYTES.length);
    writeFileSync(join(guest.root, 'bytes'), ALL_BYTES);
    writeFileInto(join(guest.root, 'bytes'), link);
    expect(await out).toEqual(ALL_BYTES);
    const program = await reader(link);
    const bytes = collect(program, ALL_BYTES.length);
    pty.write(ALL_BYTES);
    expect(await bytes).toEqual(ALL_BYTES);
    expect(pty.read(Buffer.alloc(16))).toBe(0);
    await helper.stop();
  });

  it('follows plugging and unplugging, and claims what it has linked', async () => {
    const guest = await startGuest();
    const helper = new Helper(guest, shell, ['run', '--virtio-ports']);
    await helper.passes();
    await guest.plug(3, { name: 'a' });
    await guest.until('a claimed', async () => (await guest.claim(3)) === '1');
    await guest.plug(1, { name: 'b' });
    await guest.until('b claimed', async () => (await guest.claim(1)) === '1');
    expect(linksIn(guest.root, 'virtio-ports')).toEqual({ a: '../hvc1', b: '../hvc2' });
    await guest.unplug(3);
    await guest.plug(2, { name: 'c' });
    await guest.until('c claimed', async () => (await guest.claim(2)) === '1');
    expect(linksIn(guest.root)).toEqual({ b: '../hvc2', c: '../hvc1' });
    expect(await helper.stop()).toBe(0);
    expect([await guest.claim(1), await guest.claim(2)]).toEqual(['0', '0']);
    expect([guest.lines[1]?.isSlaveOpen(), guest.lines[2]?.isSlaveOpen()]).toEqual([false, false]);
  });

  it('takes up a line in use after it was killed, without a question', async () => {
    const guest = await startGuest();
    const pty = await guest.plug(1, { name: 'a' });
    const first = new Helper(guest, shell, ['run']);
    await first.passes();
    const program = await reader(join(guest.root, 'dev/xenchannel/a'));
    process.kill(-(first.child.pid ?? 0), 'SIGKILL'); // as the service manager does: the whole group
    await first.exited();
    const bytes = collect(program, ALL_BYTES.length);
    pty.write(ALL_BYTES);
    const second = new Helper(guest, shell, ['run']);
    await second.says('took up hvc1 of console 1');
    expect(linksIn(guest.root)).toEqual({ a: '../hvc1' });
    expect(await bytes).toEqual(ALL_BYTES);
    expect(pty.read(Buffer.alloc(16))).toBe(0);
    await second.stop();
  });

  it('leaves alone what it did not make', async () => {
    const guest = await startGuest();
    mkdirSync(join(guest.root, 'dev/xenchannel'));
    mkdirSync(join(guest.root, 'dev/xen-channel'));
    writeFileSync(join(guest.root, 'dev/xenchannel/a'), 'mine');
    symlinkSync('/elsewhere', join(guest.root, 'dev/xen-channel/a'));
    symlinkSync('../hvc6', join(guest.root, 'dev/xen-channel/stale'));
    await guest.plug(1, { name: 'a' });
    const helper = new Helper(guest, shell, ['run']);
    await helper.passes();
    await helper.stop();
    expect(readFileSync(join(guest.root, 'dev/xenchannel/a'), 'utf8')).toBe('mine');
    expect(linksIn(guest.root, 'xen-channel')).toEqual({ a: '/elsewhere' });
    expect(await guest.claim(1)).toBeUndefined();
  });

  it('waits for a link by name and by device, and says when it gives up', async () => {
    const guest = await startGuest();
    expect(await new Helper(guest, shell, ['wait', 'a', '0']).exited()).toBe(6);
    expect(await new Helper(guest, shell, ['wait', '../a', '0']).exited()).toBe(3);
    const waiting = new Helper(guest, shell, ['wait', 'a', '15']);
    await guest.plug(1, { name: 'a' });
    const byDevice = new Helper(guest, shell, ['wait', '/sys/devices/console-1', '15']);
    const helper = new Helper(guest, shell, ['run']);
    expect([await waiting.exited(), await byDevice.exited()]).toEqual([0, 0]);
    await helper.stop();
  });
});
