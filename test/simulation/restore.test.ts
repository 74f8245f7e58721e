/** What a simulated guest remembers over a restore; the same as a genuine Linux (xenbus_dev_resume, xenbus_dev_changed). */
import { lstatSync, readlinkSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { frontendPath } from '../../src/console/layout.js';
import { parseChannelSpec } from '../../src/console/spec.js';
import { attach } from '../../src/dom0/attach.js';
import { buryDevice, touchFrontend } from '../../src/dom0/revive.js';
import { SimulatedHost, type SimulatedHostOptions } from '../../src/simulation/host.js';
import { memoryTtys } from '../../src/simulation/memory-tty.js';
import { temporaryDirectory } from '../support/temp-directory.js';

const LIBXL = { name: 'org.example.libxl', connection: 'pty' } as const;

async function startHost(options: Partial<SimulatedHostOptions> = {}): Promise<SimulatedHost> {
  const root = temporaryDirectory('xc-');
  const host = await SimulatedHost.start({ root, ttys: memoryTtys(), daemon: false, agent: false, ...options });
  onTestFinished(() => host.stop());
  return host;
}

const plug = (host: SimulatedHost, domid: number, deviceId: number): Promise<unknown> =>
  attach(
    host.store,
    { domain: String(domid), spec: parseChannelSpec({ name: `c${deviceId}`, deviceId }) },
    { runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock },
  );

async function stateIs(host: SimulatedHost, domid: number, deviceId: number, state: string): Promise<void> {
  const path = `${frontendPath(domid, deviceId)}/state`;
  await host.store.waitUntil(async (store) => (await store.tryReadText(path)) === state, {
    what: `${path} is ${state}`,
    paths: [path],
    timeoutMs: 5000,
  });
}

describe('a restored domain', () => {
  it('has a new id, its name and uuid, the channels of its configuration connected anew, and its old directory', async () => {
    const host = await startHost({ domains: [{ name: 'db1', channels: [LIBXL] }] });
    const before = host.domain(1);
    const [{ reference } = { reference: undefined }] = before.kernel.devices;
    const after = await host.restoreDomain(1);
    expect(after).toMatchObject({ domid: 2, name: 'db1', uuid: before.uuid, root: before.root });
    expect(readlinkSync(`${host.root}/dom2`)).toBe(before.root);
    expect(after.kernel).toBe(before.kernel);
    expect(after.kernel.devices).toMatchObject([{ nodename: 'device/console/1', state: 'initialised', hvcIndex: 1 }]);
    expect(reference).toBeDefined();
    expect(host.domains.map(({ domid }) => domid)).toEqual([2]);
    expect(await host.store.exists('/local/domain/1')).toBe(false);
    expect(host.hypervisor.zombies()).toEqual([]);
  });

  it('keeps a plugged device, dead, and does not see another one of the same id', async () => {
    const host = await startHost({ domains: 1 });
    await plug(host, 1, 1);
    await stateIs(host, 1, 1, '3');
    const { kernel } = await host.restoreDomain(1);
    expect(kernel.devices).toMatchObject([{ nodename: 'device/console/1', hvcIndex: 1 }]);
    expect(await host.store.exists(frontendPath(2, 1))).toBe(false);
    await plug(host, 2, 1);
    await plug(host, 2, 2);
    await stateIs(host, 2, 2, '3');
    expect(await host.store.readText(`${frontendPath(2, 1)}/state`)).toBe('1');
  });

  it('forgets a dead device when nodes come and go in its place, and its terminal is free again', async () => {
    const host = await startHost({ domains: 1 });
    await plug(host, 1, 1);
    await stateIs(host, 1, 1, '3');
    const { kernel } = await host.restoreDomain(1);
    await plug(host, 2, 2);
    await stateIs(host, 2, 2, '3');
    expect(kernel.devices.map(({ hvcIndex }) => hvcIndex)).toEqual([1, 2]);
    await buryDevice(host.store, { domid: 2, deviceId: 1, backendDomid: 0 });
    await plug(host, 2, 3);
    await stateIs(host, 2, 3, '3');
    expect(kernel.devices.map(({ nodename, hvcIndex }) => [nodename, hvcIndex])).toEqual([
      ['device/console/2', 2],
      ['device/console/3', 1],
    ]);
    expect(kernel.warnings).toBe(0);
  });

  it('takes nodes of the same id for its own when they are there in time, and others only when they are touched', async () => {
    const host = await startHost({ domains: 1 });
    await plug(host, 1, 1);
    await stateIs(host, 1, 1, '3');
    const { kernel } = await host.restoreDomain(1, {
      beforeResume: async (domid) => {
        await plug(host, domid, 1);
        await plug(host, domid, 2);
      },
    });
    await stateIs(host, 2, 1, '3');
    expect(kernel.devices).toMatchObject([{ nodename: 'device/console/1', state: 'initialised' }]);
    expect(await touchFrontend(host.store, { domid: 2, deviceId: 2, backendDomid: 0 })).toBe(true);
    await stateIs(host, 2, 2, '3');
    expect(await touchFrontend(host.store, { domid: 2, deviceId: 2, backendDomid: 0 })).toBe(false);
  });

  it('can be destroyed, rebooted and restored again, and its old id can be another domain beside it', async () => {
    const host = await startHost({ domains: [{ channels: [LIBXL] }] });
    await host.restoreDomain(1);
    await host.createDomain({ domid: 1, name: 'other' });
    const third = await host.restoreDomain(2, { migrate: true });
    expect(third.kernel.devices).toMatchObject([{ state: 'initialised' }]);
    const fourth = await host.rebootDomain(third.domid);
    expect(lstatSync(fourth.root).isDirectory()).toBe(true);
    expect(host.domains.map(({ name }) => name).sort()).toEqual(['guest1', 'other']);
  });
});

describe('burying a device', () => {
  it('leaves a frontend that somebody made in its place', async () => {
    const host = await startHost({ domains: 1 });
    await plug(host, 1, 1);
    await stateIs(host, 1, 1, '3');
    await buryDevice(host.store, { domid: 1, deviceId: 1, backendDomid: 0 });
    expect(await host.store.readText(`${frontendPath(1, 1)}/state`)).toBe('3');
  });

  it('makes nothing where the domain has no consoles, and is nothing to a guest that has no such device', async () => {
    const host = await startHost({ domains: 1 });
    await buryDevice(host.store, { domid: 1, deviceId: 1, backendDomid: 0 });
    expect(await host.store.exists('/local/domain/1/device/console')).toBe(false);
    await plug(host, 1, 1);
    await stateIs(host, 1, 1, '3');
    await buryDevice(host.store, { domid: 1, deviceId: 4, backendDomid: 0 });
    await plug(host, 1, 5);
    await stateIs(host, 1, 5, '3');
    expect(host.domain(1).kernel.devices).toHaveLength(2);
  });
});
