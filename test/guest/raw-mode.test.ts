/** Raw mode by system calls and by stty, on real terminals: both must see and set the same. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { makeRaw, rawModeProblem } from '../../src/guest/raw-mode.js';
import { Pty } from '../../src/sys/pty.js';
import { type RawCalls, rawCalls } from '../../src/sys/termios.js';

function openLine(): number {
  const pty = new Pty({ mode: 'cooked', holdSlave: false });
  const fd = openSync(pty.slavePath, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  onTestFinished(() => {
    closeSync(fd);
    pty.close();
  });
  return fd;
}

const stty = (fd: number, ...args: string[]): string =>
  execFileSync('stty', args, {
    stdio: [fd, 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
  }).toString();

function calls(): RawCalls {
  const found = rawCalls();
  if (found === undefined) throw new Error('koffi is not installed');
  return found;
}

/** Each alone makes a raw line unfit for some byte value. */
const HARMFUL = [
  ...['ignbrk', 'brkint', 'parmrk', 'inpck', 'istrip', 'inlcr', 'igncr', 'icrnl', 'ixon', 'ixoff', 'iuclc', 'opost'],
  ...['isig', 'icanon', 'iexten', 'echo', 'echonl', 'tostop'],
];
/** Parity and character size are not among them: a pseudo-terminal refuses both (linux:drivers/tty/pty.c). */
const HARMFUL_VALUES = [
  ['min', '0'],
  ['time', '1'],
];

describe.each([
  ['system calls', calls],
  ['stty', () => undefined],
])('raw mode by %s', (_name, means) => {
  it('makes a cooked line raw, as stty sees it', async () => {
    const fd = openLine();
    expect(rawModeProblem(stty(fd, '-a'))).toBeDefined();
    await makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: means() });
    expect(rawModeProblem(stty(fd, '-a'))).toBeUndefined();
  });

  it('is set again where a program has undone it in part', async () => {
    const fd = openLine();
    for (const args of [...HARMFUL.map((flag) => [flag]), ...HARMFUL_VALUES]) {
      await makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: calls() });
      stty(fd, ...args);
    }
    await makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: means() });
    expect(rawModeProblem(stty(fd, '-a'))).toBeUndefined();
  });

  it('leaves reads that find nothing returning at once', async () => {
    const fd = openLine();
    await makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: means() });
    expect(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).toMatch(/^flags:\t0\d*[4-7]\d{3}$/m); // O_NONBLOCK
  });

  it('leaves the speed alone', async () => {
    const fd = openLine();
    stty(fd, '9600');
    await makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: means() });
    expect(stty(fd, 'speed').trim()).toBe('9600');
  });
});

describe('raw mode by system calls', () => {
  it.each([...HARMFUL.map((flag) => [flag]), ...HARMFUL_VALUES])('sees %s as stty does', async (...args) => {
    const fd = openLine();
    await makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: calls() });
    expect(calls().problem(fd)).toBeUndefined();
    stty(fd, ...args);
    expect(rawModeProblem(stty(fd, '-a'))).toBeDefined();
    expect(calls().problem(fd)).toBeDefined();
  });

  it('leaves a line that is raw already untouched', async () => {
    const fd = openLine();
    await makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: calls() });
    const set = (): never => {
      throw new Error('set');
    };
    await makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: { ...calls(), set } });
  });

  it('says so when a line does not become raw', async () => {
    const fd = openLine();
    const idle: RawCalls = { ...calls(), set: () => {} };
    await expect(makeRaw(fd, '/dev/hvc1', { clock: systemClock, calls: idle })).rejects.toMatchObject({
      code: 'system-call-failed',
      message: expect.stringMatching(/^\/dev\/hvc1 cannot be made raw: iflag still has/),
    });
  });
});
