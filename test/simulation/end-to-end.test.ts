/** Everything together: the real attach, daemon, agent and detach on a simulated host. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, constants, existsSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { connect as dial, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { parseChannelName } from '../../src/console/name.js';
import { DEFAULT_LIMIT_BYTES } from '../../src/console/spec.js';
import { attach } from '../../src/dom0/attach.js';
import { detach } from '../../src/dom0/detach.js';
import { SimulatedHost, type SimulatedHostOptions } from '../../src/simulation/host.js';
import { until } from './rig.js';

const run = promisify(execFile);
const FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;

let scratch: string;
let host: SimulatedHost;
let sockets: Socket[];
let descriptors: number[];

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'xenchannel-e2e-'));
  sockets = [];
  descriptors = [];
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  for (const fd of descriptors) closeSync(fd);
  await host.stop();
  rmSync(scratch, { recursive: true, force: true });
});

async function start(options: Partial<SimulatedHostOptions> = {}): Promise<void> {
  host = await SimulatedHost.start({ root: join(scratch, 'h'), domains: 1, ...options });
}

const environment = () => ({ runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock });

async function plug(domain: string, name: string): Promise<string> {
  const spec = {
    name: parseChannelName(name),
    connection: 'socket',
    backend: 'native',
    limitBytes: DEFAULT_LIMIT_BYTES,
  } as const;
  return (await attach(host.store, { domain, spec, waitMs: 10_000 }, environment())).path;
}

/** A host client; `received` grows. */
async function client(path: string): Promise<{ socket: Socket; received: () => Buffer }> {
  const socket = dial(path);
  sockets.push(socket);
  const parts: Buffer[] = [];
  socket.on('data', (bytes: Buffer) => parts.push(bytes));
  socket.on('error', () => {});
  await once(socket, 'connect');
  return { socket, received: () => Buffer.concat(parts) };
}

/** Opens the agent's link, as an application in the guest. */
async function openInGuest(domid: number, name: string): Promise<number> {
  const link = join(host.domain(domid).root, 'dev/xenchannel', name);
  await until(() => existsSync(link));
  const fd = openSync(link, FLAGS);
  descriptors.push(fd);
  return fd;
}

function readNow(fd: number): Buffer {
  const bytes = Buffer.alloc(65536);
  try {
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, null));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return bytes.subarray(0, 0);
    throw error;
  }
}

async function readInGuest(fd: number, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let have = 0;
  await until(() => {
    const part = Buffer.from(readNow(fd));
    parts.push(part);
    have += part.length;
    return have >= length;
  });
  return Buffer.concat(parts);
}

async function writeInGuest(fd: number, bytes: Buffer): Promise<void> {
  let at = 0;
  await until(() => {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    return at === bytes.length;
  });
}

const noise = (length: number, seed: number): Buffer => {
  const parts: Buffer[] = [];
  for (let at = 0; at < length; at += 64) {
    parts.push(createHash('sha512').update(`${seed}/${at}`).digest());
  }
  return Buffer.concat(parts).subarray(0, length);
};

describe('a channel of a simulated host', () => {
  it.each(['xenstored-4.17', 'xenstored', 'oxenstored'] as const)(
    'carries bytes unchanged both ways between a socket client and the linked tty, with %s',
    async (like) => {
      await start({ like });
      const { socket, received } = await client(await plug('guest1', 'org.example.first'));
      const fd = await openInGuest(1, 'org.example.first');
      const [up, down] = [noise(300_000, 1), noise(300_000, 2)];
      const reading = readInGuest(fd, down.length);
      await writeInGuest(fd, Buffer.from('!')); // the host may speak from now on
      socket.write(down);
      await writeInGuest(fd, up);
      expect((await reading).equals(down)).toBe(true);
      await until(() => received().length === up.length + 1);
      expect(received().subarray(1).equals(up)).toBe(true);
      expect(host.domain(1).kernel.warnings).toBe(0);
    },
  );

  it('keeps several channels of several domains apart', async () => {
    await start({ domains: 2 });
    const names = ['one', 'two', 'three'];
    for (const domid of [1, 2]) {
      for (const name of names) {
        const path = await plug(`guest${domid}`, name);
        const { received } = await client(path);
        const fd = await openInGuest(domid, name);
        await writeInGuest(fd, Buffer.from(`${domid} ${name}`));
        await until(() => received().toString() === `${domid} ${name}`);
      }
    }
  });

  it('goes on after a killed daemon, without the guest noticing, as soon as there is a new one', async () => {
    await start();
    const path = await plug('guest1', 'survivor');
    const before = await client(path);
    const fd = await openInGuest(1, 'survivor');
    await writeInGuest(fd, Buffer.from('before'));
    await until(() => before.received().toString() === 'before');
    await host.crashDaemon();
    expect([host.hypervisor.mappedPages(), host.hypervisor.boundPorts()]).toEqual([0, 0]);
    await writeInGuest(fd, Buffer.from('between'));
    await host.startDaemon();
    const after = await client(path);
    await until(() => after.received().toString() === 'between');
    after.socket.write('back');
    expect((await readInGuest(fd, 4)).toString()).toBe('back');
    expect(host.domain(1).kernel.devices[0]?.state).toBe('connected');
  });

  it('survives an orderly restart of the daemon with what no client had taken', async () => {
    await start();
    const path = await plug('guest1', 'spooled');
    const fd = await openInGuest(1, 'spooled');
    const kept = noise(100_000, 3);
    await writeInGuest(fd, kept);
    await host.stopDaemon();
    expect(host.domain(1).kernel.devices[0]?.state).toBe('connected');
    await host.startDaemon();
    const { received } = await client(path);
    await until(() => received().length === kept.length);
    expect(received().equals(kept)).toBe(true);
  });

  it('never lets the guest spin, though nobody on the host reads', async () => {
    await start();
    await plug('guest1', 'unread');
    const fd = await openInGuest(1, 'unread');
    await writeInGuest(fd, noise(3_000_000, 4));
    await until(() => host.domain(1).kernel.devices[0]?.figures?.spinning === false);
    expect(host.domain(1).kernel.devices[0]?.figures?.outBytes).toBeGreaterThanOrEqual(2_900_000);
  });

  it('is hung up in the guest and gone from the host after detach, and its line is free again', async () => {
    await start();
    const path = await plug('guest1', 'short');
    const fd = await openInGuest(1, 'short');
    await detach(host.store, { domain: 'guest1', name: 'short' }, environment());
    await until(() => !existsSync(path));
    await until(() => host.domain(1).kernel.devices.length === 0);
    expect(readSync(fd, Buffer.alloc(1))).toBe(0);
    expect([host.hypervisor.mappedPages(), host.hypervisor.boundPorts()]).toEqual([0, 0]);
    expect(host.hypervisor.guestWarnings()).toBe(0);
    await until(() => !existsSync(join(host.domain(1).root, 'dev/xenchannel/short')));
    await plug('guest1', 'next');
    expect(host.domain(1).kernel.devices[0]?.hvcIndex).toBe(1);
  });

  it('leaves no page mapped and no socket when its domain is destroyed', async () => {
    await start();
    const path = await plug('guest1', 'doomed');
    await openInGuest(1, 'doomed');
    await host.destroyDomain(1);
    await until(() => host.hypervisor.mappedPages() + host.hypervisor.boundPorts() === 0);
    expect(host.hypervisor.zombies()).toEqual([]);
    await until(() => !existsSync(path));
  });

  it('ends well while the guest writes without pause', async () => {
    await start();
    const path = await plug('guest1', 'busy');
    const { received } = await client(path);
    const fd = await openInGuest(1, 'busy');
    let hungUp = '';
    const writing = until(() => {
      try {
        writeSync(fd, noise(4096, 5));
      } catch (error) {
        const { code = '' } = error as NodeJS.ErrnoException;
        if (code !== 'EAGAIN') hungUp = code;
      }
      return hungUp !== '';
    });
    await until(() => received().length > 50_000);
    await detach(host.store, { domain: 'guest1', name: 'busy' }, environment());
    await writing;
    expect(hungUp).toBe('EIO');
    await until(() => host.domain(1).kernel.devices.length === 0);
    expect([host.hypervisor.mappedPages(), host.hypervisor.guestWarnings()]).toEqual([0, 0]);
  });

  it('is given up when root in the guest removes the frontend, and can be plugged again', async () => {
    await start();
    await plug('guest1', 'removed');
    await openInGuest(1, 'removed');
    const { storePath } = host.domain(1);
    await run('xenstore-rm', ['device/console/1'], { env: { ...process.env, XENSTORED_PATH: storePath } });
    await until(() => host.hypervisor.mappedPages() + host.hypervisor.boundPorts() === 0);
    await until(() => host.domain(1).kernel.devices.length === 0);
    // A race: on a genuine Xen the guest frees the page before any daemon can unmap it, and hurts itself alone.
    expect(host.hypervisor.guestWarnings()).toBeLessThanOrEqual(1);
    await detach(host.store, { domain: 'guest1', name: 'removed' }, environment());
    await plug('guest1', 'again');
  });

  it('connects at once when the daemon starts after attach', async () => {
    await start({ daemon: false });
    const attached = plug('guest1', 'early');
    await until(() => host.domain(1).kernel.devices[0]?.state === 'initialised');
    await host.startDaemon();
    const { received } = await client(await attached);
    await writeInGuest(await openInGuest(1, 'early'), Buffer.from('there'));
    await until(() => received().toString() === 'there');
  });

  it('is not there any more after a reboot', async () => {
    await start();
    await plug('guest1', 'lost');
    const { domid } = await host.rebootDomain(1);
    expect(host.domain(domid).kernel.devices).toEqual([]);
    await until(() => host.hypervisor.mappedPages() === 0);
  });
});
