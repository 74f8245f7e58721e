import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { OpenCloseWatcher } from '../../src/sys/inotify.js';
import { Pty, type PtyOptions } from '../../src/sys/pty.js';
import { setTtyMode, ttyMode } from '../../src/sys/termios.js';

const SLAVE_FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;
const open: { close(): void }[] = [];
afterEach(() => {
  for (const thing of open.splice(0)) thing.close();
});

function pty(options: Partial<PtyOptions> = {}): Pty {
  const made = new Pty({ mode: 'raw', holdSlave: false, ...options });
  open.push(made);
  return made;
}

function slave(of: Pty): number {
  const fd = openSync(of.slavePath, SLAVE_FLAGS);
  open.push({ close: () => closeSync(fd) });
  return fd;
}

const text = (bytes: Buffer, count: number) => bytes.toString('latin1', 0, count);
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Reads until `count` bytes came: the kernel's tty work runs on a worker of its own. */
async function readSlave(fd: number, count: number): Promise<string> {
  const bytes = Buffer.alloc(count);
  let have = 0;
  while (have < count) {
    try {
      have += readSync(fd, bytes, have, count - have, null);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      await nextTurn();
    }
  }
  return text(bytes, count);
}

async function readMaster(of: Pty, count: number): Promise<string> {
  const bytes = Buffer.alloc(count);
  let have = 0;
  while (have < count) {
    const got = of.read(bytes.subarray(have));
    if (got === 'hung-up') break;
    have += got;
    if (got === 0) await nextTurn();
  }
  return text(bytes, have);
}

describe('Pty', () => {
  it('starts with the settings of a Linux tty driver, as stty sees them', () => {
    const line = pty({ mode: 'cooked', holdSlave: true });
    const settings = execFileSync('stty', ['-F', line.slavePath, '-a'], { encoding: 'utf8' });
    expect(settings).toContain('speed 38400');
    const words = new Set(settings.split(/\s+/));
    for (const flag of ['isig', 'icanon', 'iexten', 'echo', 'icrnl', 'ixon', 'opost', 'onlcr', 'cs8', 'cread']) {
      expect(words).toContain(flag);
    }
    for (const character of ['intr = ^C', 'quit = ^\\', 'erase = ^?', 'kill = ^U', 'eof = ^D', 'min = 1']) {
      expect(settings).toContain(character);
    }
  });

  it('carries every byte value unchanged both ways when raw', async () => {
    const line = pty();
    const fd = slave(line);
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    expect(line.write(all)).toBe(256);
    expect(await readSlave(fd, 256)).toBe(all.toString('latin1'));
    writeSync(fd, all);
    expect(await readMaster(line, 256)).toBe(all.toString('latin1'));
  });

  it('echoes when cooked and stops when somebody sets the slave raw', async () => {
    const line = pty({ mode: 'cooked' });
    const fd = slave(line);
    line.write(Buffer.from('hi\n'));
    expect(await readMaster(line, 4)).toBe('hi\r\n');
    expect(await readSlave(fd, 3)).toBe('hi\n');
    setTtyMode(fd, 'raw');
    expect([line.mode, ttyMode(fd)]).toEqual(['raw', 'raw']);
  });

  it('takes no more than fits while nobody reads, without freezing', async () => {
    const line = pty();
    const fd = slave(line);
    const block = Buffer.alloc(64 * 1024, 'x');
    let taken = 0;
    for (;;) {
      const count = line.write(block);
      if (count === 0) break;
      taken += count;
    }
    expect(taken).toBeGreaterThan(1000);
    expect(taken).toBeLessThan(block.length);
    expect((await readSlave(fd, taken)).length).toBe(taken);
  });

  it('knows whether somebody has the slave open, however many opened and closed it', () => {
    const line = pty();
    expect(line.isSlaveOpen()).toBe(false);
    const first = openSync(line.slavePath, SLAVE_FLAGS);
    const second = openSync(line.slavePath, SLAVE_FLAGS);
    closeSync(first);
    expect(line.isSlaveOpen()).toBe(true);
    closeSync(second);
    expect(line.isSlaveOpen()).toBe(false);
    expect(pty({ holdSlave: true }).isSlaveOpen()).toBe(true);
  });

  it('delivers what was written just before the last close, then says hung-up', async () => {
    const line = pty();
    const fd = openSync(line.slavePath, SLAVE_FLAGS);
    writeSync(fd, 'last words');
    closeSync(fd);
    expect(await readMaster(line, 100)).toBe('last words');
    expect(line.read(Buffer.alloc(1))).toBe('hung-up');
  });

  it('forgets unread bytes and settings when reset', async () => {
    const line = pty({ mode: 'cooked' });
    const fd = slave(line);
    setTtyMode(fd, 'raw');
    line.write(Buffer.from('stale'));
    await readSlave(fd, 1);
    line.resetSlave('cooked');
    expect(line.mode).toBe('cooked');
    expect(() => readSync(fd, Buffer.alloc(9))).toThrow('EAGAIN');
  });

  it('does not call back again and again when the slave is closed, as long as it is held', async () => {
    const line = pty({ holdSlave: true });
    let calls = 0;
    const watch = line.watch(() => calls++);
    watch.want({ readable: true, disconnect: true });
    closeSync(openSync(line.slavePath, SLAVE_FLAGS));
    for (let turn = 0; turn < 50; turn++) await nextTurn();
    expect(calls).toBe(0);
  });

  it('ends readers and takes the path away when closed', async () => {
    const line = pty();
    const reader = spawn('cat', [line.slavePath], { stdio: 'ignore' });
    const ended = new Promise((resolve) => reader.once('exit', resolve));
    while (!line.isSlaveOpen()) await nextTurn();
    line.close();
    line.close();
    await ended;
    expect(existsSync(line.slavePath)).toBe(false);
  });
});

describe('OpenCloseWatcher', () => {
  it('tells about opens and closes of the watched file only, until it is stopped', async () => {
    const watcher = new OpenCloseWatcher();
    open.push(watcher);
    const [watched, other] = [pty(), pty()];
    let hints = 0;
    const stop = watcher.watch(watched.slavePath, () => hints++);
    let others = 0;
    watcher.watch(other.slavePath, () => others++);
    const fd = openSync(watched.slavePath, SLAVE_FLAGS);
    while (hints === 0) await nextTurn();
    hints = 0;
    closeSync(fd);
    while (hints === 0) await nextTurn();
    stop();
    stop();
    hints = 0;
    closeSync(openSync(watched.slavePath, SLAVE_FLAGS));
    closeSync(openSync(other.slavePath, SLAVE_FLAGS));
    while (others === 0) await nextTurn();
    expect(hints).toBe(0);
  });
});
