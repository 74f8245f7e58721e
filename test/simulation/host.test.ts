import { execFile } from 'node:child_process';
import { closeSync, constants, existsSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SimulatedHost, type SimulatedHostOptions } from '../../src/simulation/host.js';
import { countingClock } from '../support/counting-clock.js';
import { TestBackend, until } from './rig.js';

const run = promisify(execFile);

let scratch: string;
let host: SimulatedHost | undefined;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'xenchannel-host-'));
});

afterEach(async () => {
  await host?.stop();
  host = undefined;
  rmSync(scratch, { recursive: true, force: true });
});

async function start(options: Partial<SimulatedHostOptions> = {}): Promise<SimulatedHost> {
  host = await SimulatedHost.start({ root: join(scratch, 'h'), daemon: false, ...options });
  return host;
}

/** A genuine xenstore tool, speaking to one of the host's sockets. */
async function tool(socket: string, name: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(name, args, { env: { ...process.env, XENSTORED_PATH: socket } });
  return stdout.trim();
}

describe('a simulated host', () => {
  it('names its domains and gives each a directory and a xenstore socket of its own', async () => {
    const { domains, root } = await start({ domains: 2 });
    expect(domains.map(({ domid, name }) => [domid, name])).toEqual([
      [1, 'guest1'],
      [2, 'guest2'],
    ]);
    for (const domain of domains) {
      expect(domain.root).toBe(join(root, `dom${domain.domid}`));
      expect(existsSync(domain.storePath)).toBe(true);
      expect(domain.uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    }
  });

  it('lets the genuine xenstore tools act as dom0 and as a guest, with the rights of each', async () => {
    const { domains, storePath } = await start({ domains: 2 });
    const guest = domains[0]?.storePath ?? '';
    expect(await tool(storePath, 'xenstore-read', '/local/domain/2/name')).toBe('guest2');
    expect(await tool(guest, 'xenstore-read', 'name')).toBe('guest1');
    await expect(tool(guest, 'xenstore-read', '/local/domain/2/name')).rejects.toThrow('xenstore-read');
    await expect(tool(guest, 'xenstore-write', 'name', 'evil')).rejects.toThrow('xenstore-write');
    await tool(guest, 'xenstore-write', 'data/mine', 'yes');
    expect(await tool(storePath, 'xenstore-read', '/local/domain/1/data/mine')).toBe('yes');
  });

  it('lets the guest probe the channels of its configuration file, which nobody serves', async () => {
    const channels = [{ name: 'org.qemu.guest_agent.0', connection: 'socket', path: '/run/x.sock' }] as const;
    const { domains, store } = await start({ domains: [{ name: 'web', channels }], agent: false });
    expect(domains[0]?.kernel.devices).toMatchObject([
      { nodename: 'device/console/1', state: 'initialised', hvcIndex: 1 },
    ]);
    expect(await store.readText('/local/domain/1/device/console/1/name')).toBe('org.qemu.guest_agent.0');
    expect(await store.readText('/local/domain/1/device/console/1/state')).toBe('3');
  });

  it('runs the real agent, which links a channel once somebody serves it', async () => {
    const channels = [{ name: 'org.qemu.guest_agent.0', connection: 'socket', path: '/run/x.sock' }] as const;
    const { domains, store, hypervisor } = await start({ domains: [{ channels }] });
    const frontend = '/local/domain/1/device/console/1';
    const [reference, port] = [`${frontend}/ring-ref`, `${frontend}/port`].map((path) => store.readText(path));
    const backend = new TestBackend(hypervisor, Number(await reference), Number(await port));
    const link = join(domains[0]?.root ?? '', 'dev/xenchannel/org.qemu.guest_agent.0');
    expect(existsSync(link)).toBe(false);
    await store.write('/local/domain/0/backend/console/1/1/state', '4');
    await until(() => existsSync(link));
    const fd = openSync(link, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    writeSync(fd, 'raw\n');
    await until(() => backend.received.toString() === 'raw\n');
    closeSync(fd);
    backend.hypervisor.close();
  });

  it('destroys a domain without a trace, and tells who watches', async () => {
    const { store, root, hypervisor } = await start({ domains: 2 });
    const before = (await store.directory('/local/domain')).length;
    const told = new Promise<void>((resolve) => {
      let events = 0;
      void store.watch('@releaseDomain', () => ++events === 2 && resolve());
    });
    await store.isDomainIntroduced(1); // the watch is in place
    await host?.destroyDomain(1);
    await told;
    expect(await store.isDomainIntroduced(1)).toBe(false);
    expect((await store.directory('/local/domain')).length).toBe(before - 1);
    expect([await store.exists('/libxl/1'), await store.exists('/local/domain/1')]).toEqual([false, false]);
    expect(existsSync(join(root, 'dom1'))).toBe(false);
    expect([hypervisor.zombies(), hypervisor.guestWarnings()]).toEqual([[], 0]);
    expect(() => host?.domain(1)).toThrow('there is no domain 1');
  });

  it('reboots a domain into a new id with the same name, uuid and configured channels', async () => {
    const channels = [{ name: 'a', connection: 'pty' }] as const;
    const { domains, store } = await start({ domains: [{ name: 'db', channels }], agent: false });
    const before = domains[0];
    const after = await host?.rebootDomain(1);
    expect(after).toMatchObject({ domid: 2, name: 'db', uuid: before?.uuid });
    expect(after?.kernel.devices.length).toBe(1);
    expect(await store.exists('/local/domain/1')).toBe(false);
  });

  it('gives a dead domain id to another domain when asked to', async () => {
    const { domains, store } = await start({ domains: 1, agent: false });
    await host?.destroyDomain(1);
    const again = await host?.createDomain({ domid: 1, name: 'other' });
    expect([again?.domid, again?.uuid === domains[0]?.uuid]).toEqual([1, false]);
    expect(await store.readText('/local/domain/1/name')).toBe('other');
    await expect(host?.createDomain({ domid: 1 })).rejects.toThrow('still in use');
    expect(await store.readText('/local/domain/1/name')).toBe('other');
  });

  it('does not start twice in one directory', async () => {
    const { root } = await start({ domains: 1 });
    await expect(SimulatedHost.start({ root, daemon: false })).rejects.toMatchObject({ code: 'EBUSY' });
    expect(await host?.store.readText('/local/domain/1/name')).toBe('guest1');
  });

  it('leaves neither files nor descriptors nor timers behind', async () => {
    const descriptors = () => readdirSync('/proc/self/fd').length;
    const { root } = await start({ domains: 1 });
    await host?.stop();
    const before = descriptors();
    const { clock, pending } = countingClock();
    for (let round = 0; round < 3; round++) {
      await start({ domains: 2, clock });
      await host?.stop();
    }
    expect(existsSync(root)).toBe(false);
    expect(readdirSync(scratch)).toEqual([]);
    expect(descriptors()).toBe(before);
    expect(pending()).toBe(0);
  });

  it('refuses a root that is too long for its sockets, and makes nothing', async () => {
    const root = join(scratch, 'x'.repeat(90));
    await expect(SimulatedHost.start({ root })).rejects.toMatchObject({ code: 'path-too-long' });
    expect(existsSync(root)).toBe(false);
  });

  it('stops what it had started when a domain cannot be made', async () => {
    const root = join(scratch, 'h');
    const broken = { name: 'n'.repeat(5000) };
    await expect(SimulatedHost.start({ root, daemon: false, domains: [{}, broken] })).rejects.toMatchObject({
      code: 'E2BIG',
    });
    expect(existsSync(root)).toBe(false);
  });
});
