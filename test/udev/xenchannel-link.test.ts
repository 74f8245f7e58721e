/** The shell helper against genuine xenstore-utils, stty and real terminals, under both shells that guests have. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CASES } from '../guest/cases.js';
import { PtyGuest } from '../guest/pty-guest.js';

const HELPER = fileURLToPath(new URL('../../udev/xenchannel-link', import.meta.url));
const SHELLS: readonly (readonly [string, ...string[]])[] = [['dash'], ['busybox', 'sh']];

function linksOf(guest: PtyGuest, directory = 'xenchannel'): Record<string, string> {
  const path = join(guest.root, 'dev', directory);
  if (!existsSync(path)) return {};
  return Object.fromEntries(readdirSync(path).map((entry) => [entry, readlinkSync(join(path, entry))]));
}

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
  it.each(CASES)('links: $title', async ({ consoles, unplug = [], links }) => {
    const guest = await startGuest();
    for (const { deviceId, ...options } of consoles) await guest.plug(deviceId, options);
    for (const deviceId of unplug) await guest.unplug(deviceId);
    const helper = new Helper(guest, shell, ['run']);
    await helper.passes();
    const expected = Object.entries(links).map(([name, id]) => [name, `../hvc${guest.index(id)}`]);
    expect(linksOf(guest), helper.stderr).toEqual(Object.fromEntries(expected));
    expect(await helper.stop()).toBe(0);
    expect(linksOf(guest)).toEqual({});
  });
});
