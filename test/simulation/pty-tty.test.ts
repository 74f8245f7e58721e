import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ptyTtys } from '../../src/simulation/pty-tty.js';
import type { TtyMaker } from '../../src/simulation/tty-port.js';
import { setTtyMode, ttyMode } from '../../src/sys/termios.js';
import { Rig, type TestBackend, until } from './rig.js';

const FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;

let rig: Rig;
let ttys: TtyMaker;
let backend: TestBackend;
let fds: number[];
const hvc = (index: number) => join(rig.root, `dev/hvc${index}`);

beforeEach(async () => {
  ttys = ptyTtys();
  fds = [];
  rig = await Rig.start({ ttys });
  ({ backend } = await rig.connect(1));
});

afterEach(async () => {
  for (const fd of fds) closeSync(fd);
  await rig.stop();
  ttys.close();
});

function open(index: number): number {
  const fd = openSync(hvc(index), FLAGS);
  fds.push(fd);
  return fd;
}

function close(fd: number): void {
  fds = fds.filter((other) => other !== fd);
  closeSync(fd);
}

/** What a read gives now: '' when there is nothing. */
function read(fd: number): string {
  const bytes = Buffer.alloc(65536);
  try {
    return bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, null));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return '';
    throw error;
  }
}

async function readAll(fd: number, length: number): Promise<string> {
  let text = '';
  await until(() => {
    text += read(fd);
    return text.length >= length;
  });
  return text;
}

describe('a console behind a real terminal', () => {
  it('is linked as hvcX next to the primary one, and only where a console is', () => {
    expect([0, 1, 2].map((index) => existsSync(hvc(index)))).toEqual([true, true, false]);
  });

  it('keeps what the host sent until the first open, then echoes it, as a cooked line does', async () => {
    backend.send('hello\n');
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect([backend.ring.inSpace(), backend.received.length]).toEqual([1024 - 6, 0]);
    const fd = open(1);
    expect(await readAll(fd, 6)).toBe('hello\n');
    await until(() => backend.received.toString() === 'hello\r\n');
  });

  it('carries every byte value both ways once it is raw', async () => {
    const fd = open(1);
    setTtyMode(fd, 'raw');
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    backend.send(all);
    expect(await readAll(fd, 256)).toBe(all.toString('latin1'));
    writeSync(fd, all);
    await until(() => backend.received.length === 256);
    expect(backend.received.equals(all)).toBe(true);
  });

  it('stays raw while anybody has it open and is cooked and empty after the last close', async () => {
    const keeper = open(1);
    const other = open(1);
    setTtyMode(keeper, 'raw');
    close(other);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(ttyMode(keeper)).toBe('raw');
    backend.send('unread');
    await until(() => backend.ring.inSpace() === 1024);
    close(keeper);
    // Until the simulated driver has seen the close: only it can make the line cooked again.
    await until(() => {
      const probe = openSync(hvc(1), FLAGS);
      const mode = ttyMode(probe);
      closeSync(probe);
      return mode === 'cooked';
    });
    expect(read(open(1))).toBe('');
  });

  it('delivers what was written right before the last close', async () => {
    const fd = open(1);
    setTtyMode(fd, 'raw');
    writeSync(fd, 'last words');
    close(fd);
    await until(() => backend.received.toString() === 'last words');
  });

  it('sends what a process wrote that opened and closed it between two looks', async () => {
    const writer = spawn('sh', ['-c', `printf quick > ${hvc(1)}`]);
    await once(writer, 'exit');
    await until(() => backend.received.toString() === 'quick');
  });

  it('blocks the sender, not the process, while the application does not read', async () => {
    const fd = open(1);
    setTtyMode(fd, 'raw');
    const sent = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 11) & 0xff));
    backend.send(sent);
    await until(() => rig.device(1).figures?.inBytes !== 0 && backend.ring.inSpace() === 0);
    expect(backend.unsentBytes).toBeGreaterThan(100_000);
    expect(await readAll(fd, sent.length)).toBe(sent.toString('latin1'));
  });

  it('blocks the application while the backend does not drain, and loses nothing', async () => {
    const fd = open(1);
    setTtyMode(fd, 'raw');
    backend.draining = false;
    let written = 0;
    const block = Buffer.alloc(1000, 'z');
    await until(() => {
      try {
        written += writeSync(fd, block);
        return false;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === 'EAGAIN' && rig.device(1).figures?.spinning === true;
      }
    });
    expect(rig.device(1).figures).toMatchObject({ outBytes: 2048, spins: 1 });
    backend.draining = true;
    backend.turn();
    await until(() => backend.received.length === written);
  });

  it('ends its readers and vanishes at Closing, and comes back on the same line', async () => {
    const reader = spawn('cat', [hvc(1)], { stdio: ['ignore', 'ignore', 'ignore'] });
    backend.send('x\n');
    await until(() => backend.received.toString() === 'x\r\n'); // its echo: somebody has the line open
    const ended = once(reader, 'exit');
    await rig.setBackendState(1, 5);
    await rig.frontendReaches(1, 6);
    await ended;
    expect(existsSync(hvc(1))).toBe(false);
    backend.hypervisor.close();
    await rig.unplug(1);
    await until(() => rig.guest.devices.length === 0);
    await rig.connect(1);
    expect(existsSync(hvc(1))).toBe(true);
  });
});
