/** A wanted channel over the life of its domain, on a simulated host with the real daemon. */
import { existsSync, writeFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { EventLog } from '../../src/backend/events.js';
import { Restorer } from '../../src/backend/restorer.js';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/log.js';
import { backendPath, frontendPath, libxlPath } from '../../src/console/layout.js';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import { DesiredStore } from '../../src/dom0/desired-store.js';
import type { Dom0Environment } from '../../src/dom0/environment.js';
import { list } from '../../src/dom0/list.js';
import { attachPersistently, detachAndForget } from '../../src/dom0/persist.js';
import { PATIENCE_MS } from '../../src/dom0/restoration.js';
import type { SimulatedDomain } from '../../src/simulation/simulated-domain.js';
import { addDomain, startHost, uuidFor } from '../dom0/host.js';
import { DaemonHost } from '../support/daemon-host.js';
import { FakeClock } from '../support/fake-clock.js';
import { until } from '../support/until.js';

const NAME = 'org.example.a';
/** Timers run a hundred times faster; what is waited for is the same. */
const FAST: Clock = {
  now: () => systemClock.now() * 100,
  after: (delayMs, fn) => systemClock.after(delayMs / 100, fn),
};

const envOf = ({ env, host }: DaemonHost): Dom0Environment => ({ ...env, stateDirectory: host.stateDirectory });
const recordsOf = ({ host, env }: DaemonHost): DesiredStore =>
  new DesiredStore({ directory: host.stateDirectory, clock: env.clock });

async function persist(host: DaemonHost, input: Partial<ChannelSpecInput> = {}): Promise<void> {
  const spec = parseChannelSpec({ name: NAME, ...input });
  const { deviceId } = await attachPersistently(host.store, { domain: '1', spec }, envOf(host));
  await host.states(deviceId, '4', '4');
}

/** Waits for 4/4 and sends bytes both ways. */
async function talk(host: DaemonHost, domid: number, deviceId: number): Promise<void> {
  await host.states(deviceId, '4', '4', domid);
  await until(
    'its host end is open',
    () => host.isServed(deviceId, domid) && existsSync(host.channel(deviceId, domid).path),
  );
  const client = await host.client(host.channel(deviceId, domid).path);
  const tty = host.lines.at(-1);
  tty?.openLine();
  tty?.send('from the guest');
  await until('the client has it', () => client.received.toString() === 'from the guest');
  client.socket.write('from the client');
  let heard = '';
  await until('the guest has it', () => {
    heard += tty?.receive() ?? '';
    return heard === 'from the client';
  });
}

const consoles = ({ kernel }: SimulatedDomain): string[] => kernel.devices.map(({ nodename }) => nodename);
const wanted = (host: DaemonHost) => host.status.wanted.find(({ name }) => name === NAME);

describe('a wanted channel', () => {
  it('is back after a reboot, with its device id, and carries bytes', async () => {
    const host = await DaemonHost.start();
    await persist(host, { deviceId: 3 });
    const { domid } = await host.host.rebootDomain(1);
    expect(domid).toBe(2);
    await talk(host, 2, 3);
    await until('the daemon says so', () => wanted(host)?.state === 'there');
    expect(host.log.filter(({ msg }) => msg === 'wanted channel attached')).toMatchObject([
      { level: 'info', fields: { domid: 2, deviceId: 3, name: NAME } },
    ]);
    expect((await recordsOf(host).all()).records).toMatchObject([
      { channels: [{ spec: { name: NAME, deviceId: 3 }, last: { domid: 2, deviceId: 3 } }] },
    ]);
  });

  it('is not attached to a domain that libxl is taking apart, where it would stay for ever', async () => {
    const host = await DaemonHost.start({ clock: FAST });
    await persist(host);
    // libxl removes the consoles first, the primary one among them, and the domain itself some seconds later.
    const backend = backendPath({ domid: 1, deviceId: 1, backendDomid: 0 });
    for (const path of [libxlPath(1, 0), libxlPath(1, 1), backend]) await host.store.rm(path);
    await until('the daemon has let go of it', () => !host.isServed(1, 1));
    await host.host.createDomain({});
    await until('the daemon looks after the domain', () => wanted(host) !== undefined);
    const endMs = FAST.now() + 2 * PATIENCE_MS;
    await until('a toolstack without libxl would have had its time', () => FAST.now() > endMs);
    expect(wanted(host)).toMatchObject({ state: 'waiting', code: 'not-settled' });
    expect(await host.store.exists(backend)).toBe(false);
  });

  it('keeps its path over a reboot where it was given one', async () => {
    const host = await DaemonHost.start();
    const path = `${host.host.root}/mine.sock`;
    await persist(host, { path });
    await host.host.rebootDomain(1);
    await talk(host, 2, 1);
    expect(host.channel(1, 2).path).toBe(path);
  });

  it('gets the lowest free id where its own went to the toolstack meanwhile', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    const { uuid, name } = host.host.domain(1);
    await host.host.destroyDomain(1);
    const channels = [{ name: 'org.example.libxl', connection: 'pty' }] as const;
    await host.host.createDomain({ uuid, name, channels });
    await talk(host, 2, 2);
  });

  it('is taken by a restored guest for the one it had, when it is there before the guest goes on', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    const domain = await host.host.restoreDomain(1, { beforeResume: (domid) => host.states(1, '1', '2', domid) });
    expect(domain).toMatchObject({ domid: 2, uuid: expect.any(String) as string });
    await talk(host, 2, 1);
    expect(consoles(domain)).toEqual(['device/console/1']);
    expect(host.host.hypervisor.guestWarnings()).toBe(0);
  });

  it('stands there before a domain that is restored is introduced, and stays when other domains come and go', async () => {
    const host = await DaemonHost.start();
    await persist(host, { deviceId: 3 });
    const other = await host.host.createDomain({});
    const whileBuilt = async (domid: number): Promise<void> => {
      await until('it is served', () => host.isServed(3, domid));
      await host.host.destroyDomain(other.domid);
      await host.host.createDomain({});
      await host.states(3, '1', '2', domid);
      expect(host.isServed(3, domid)).toBe(true);
    };
    // Nothing is waited for afterwards: libxl does not, either.
    const domain = await host.host.restoreDomain(1, { whileBuilt });
    await talk(host, domain.domid, 3);
    expect(consoles(domain)).toEqual(['device/console/3']);
    expect(host.log.filter(({ msg }) => msg === 'wanted channel attached')).toHaveLength(1);
  });

  it('gives way to a channel of the toolstack that the configuration has meanwhile', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    const channels = [{ name: 'org.example.libxl', connection: 'pty' }] as const;
    const whileBuilt = (domid: number): Promise<void> => until('it is served', () => host.isServed(1, domid));
    await host.host.restoreDomain(1, { whileBuilt, channels });
    await host.states(2, '4', '4', 2);
    expect(await host.store.readText(`${frontendPath(2, 1)}/name`)).toBe('org.example.libxl');
    await until('the daemon says so', () => wanted(host)?.state === 'there' && wanted(host)?.deviceId === 2);
  });

  it('gets another id in a restored guest that went on without it, and the dead device goes', async () => {
    const host = await DaemonHost.start();
    // A channel of the toolstack: its frontend tells that the guest runs.
    await host.host.destroyDomain(1);
    const channels = [{ name: 'org.example.libxl', connection: 'pty' }] as const;
    await host.host.createDomain({ domid: 1, channels });
    await persist(host);
    await host.host.stopDaemon();
    const domain = await host.host.restoreDomain(1);
    expect(consoles(domain)).toEqual(['device/console/1', 'device/console/2']);
    expect(domain.kernel.devices.map(({ state }) => state)).toEqual(['initialised', 'connected']);
    await host.host.startDaemon();
    await talk(host, 2, 3);
    await until('the guest has forgotten the old one', () => !consoles(domain).includes('device/console/2'));
    await until('the daemon says so', () => wanted(host)?.state === 'there');
    expect((await recordsOf(host).all()).records[0]?.channels[0]?.last).toEqual({ domid: 2, deviceId: 3 });
    // The next time the recorded id is the right one again.
    const again = await host.host.restoreDomain(2, { beforeResume: (domid) => host.states(3, '1', '2', domid) });
    await talk(host, 3, 3);
    expect(consoles(again)).toEqual(['device/console/1', 'device/console/3']);
  });

  it('gets another id at once where the restored guest has only said that its device is dead', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    await host.host.stopDaemon();
    const domain = await host.host.restoreDomain(1);
    expect(await host.store.readText('/local/domain/2/error/device/console/1/error')).toMatch(/^2 /);
    await host.host.startDaemon();
    await talk(host, 2, 2);
    await until('the guest has forgotten the old one', () => consoles(domain).join() === 'device/console/2');
    expect(await host.store.exists(frontendPath(2, 1))).toBe(false);
  });

  it('moves to another id when a guest that gave no sign of life overlooks it', async () => {
    const host = await DaemonHost.start({ clock: FAST });
    await persist(host);
    await host.host.stopDaemon();
    const domain = await host.host.restoreDomain(1);
    // A kernel that does not say what it has looked at.
    await host.store.rm('/local/domain/2/error/device');
    await host.host.startDaemon();
    await host.states(1, '1', '2', 2);
    await talk(host, 2, 2);
    expect(consoles(domain)).toEqual(['device/console/2']);
    expect(await host.store.exists(frontendPath(2, 1))).toBe(false);
    expect(await host.store.exists(backendPath({ domid: 2, deviceId: 1, backendDomid: 0 }))).toBe(false);
  });

  it('is seen by a restored guest although it was attached under a new id while the guest did not run', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    const records = recordsOf(host);
    const { uuid } = host.host.domain(1);
    const spec = parseChannelSpec({ name: 'org.example.b' });
    await records.put({ uuid }, { spec });
    const both = async (domid: number): Promise<void> => {
      await host.states(1, '1', '2', domid);
      await host.states(2, '1', '2', domid);
    };
    await host.host.restoreDomain(1, { beforeResume: both });
    await host.states(2, '4', '4', 2);
    await host.states(1, '4', '4', 2);
  });

  it('moves over with its path when the domain migrates to the same host', async () => {
    const host = await DaemonHost.start();
    const path = `${host.host.root}/mine.sock`;
    await persist(host, { path });
    const beforeResume = (domid: number): Promise<void> => host.states(1, '1', '2', domid);
    await host.host.restoreDomain(1, { migrate: true, beforeResume });
    await until('only the new one is served', () => !host.isServed(1, 1) && host.isServed(1, 2));
    await until('the path is free', () => host.channel(1, 2).problems.length === 0);
    await talk(host, 2, 1);
    expect(host.channel(1, 2).path).toBe(path);
  });

  it('does not come to another domain that gets the same domid', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    await host.host.destroyDomain(1);
    await host.host.createDomain({ domid: 1, name: 'other' });
    await host.host.createDomain({ domid: 2, name: 'marker' });
    // Its own domain has to come for the daemon to do anything: by then it has looked at the others.
    const { records } = await recordsOf(host).all();
    const key = records[0]?.key as { uuid: string };
    await host.host.createDomain({ domid: 3, uuid: key.uuid, name: 'guest1' });
    await talk(host, 3, 1);
    expect(await host.store.exists(frontendPath(1, 1))).toBe(false);
    await until('the daemon says so', () => wanted(host)?.state === 'there');
    expect(host.status.wanted.map(({ domid }) => domid)).toEqual([3]);
  });

  it('is attached when the daemon comes after its domain', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    await host.host.stopDaemon();
    await host.host.rebootDomain(1);
    await host.host.startDaemon();
    await host.states(1, '4', '4', 2);
  });

  it('has its place written down also when somebody else attached it', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    await host.detach();
    const { deviceId } = await host.attach({ deviceId: 5 });
    await host.states(deviceId, '4', '4');
    await host.host.stopDaemon();
    await host.host.startDaemon();
    await until('the daemon says so', () => wanted(host)?.deviceId === 5);
    expect((await recordsOf(host).all()).records[0]?.channels[0]?.last).toEqual({ domid: 1, deviceId: 5 });
  });

  it('is attached by the next daemon when the first one is killed in the middle', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    await persist(host, { name: 'org.example.b' });
    await host.host.restoreDomain(1, {
      beforeResume: async (domid) => {
        await host.states(1, '1', '2', domid);
        await host.host.crashDaemon();
      },
    });
    await host.host.startDaemon();
    await until('both are there', () => host.status.wanted.filter(({ state }) => state === 'there').length === 2);
    for (const { deviceId } of host.status.wanted) await host.states(deviceId ?? 0, '4', '4', 2);
  });

  it('does not come back after it was detached', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    await persist(host, { name: 'org.example.b' });
    expect(await detachAndForget(host.store, { domain: '1', name: NAME }, envOf(host))).toMatchObject({
      forgotten: true,
    });
    await host.host.rebootDomain(1);
    await host.states(2, '4', '4', 2);
    expect(await host.store.exists(frontendPath(2, 1))).toBe(false);
  });

  it('is refused with the reason, and told, where the toolstack has a channel of its name', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    const { uuid, name } = host.host.domain(1);
    await host.host.destroyDomain(1);
    await host.host.createDomain({ uuid, name, channels: [{ name: NAME, connection: 'pty' }] });
    await until('it is refused', () => wanted(host)?.state === 'refused');
    const message = 'the toolstack made a channel of this name, device 1';
    expect(wanted(host)).toMatchObject({ code: 'not-ours', message, givenUp: true, domid: 2, deviceId: null });
    expect((await list(host.store, envOf(host))).wanted).toMatchObject([{ name: NAME, reason: message, domid: 2 }]);
    await until('there is an event', () => host.log.some(({ msg }) => msg === 'wanted channel not attached'));
  });

  it('comes back although the record of another domain is damaged, which is told once', async () => {
    const host = await DaemonHost.start();
    await persist(host);
    const bad = `${host.host.stateDirectory}/uuid-00000000-0000-4000-8000-000000000000.json`;
    writeFileSync(bad, '{"format": 1', { mode: 0o600 });
    await host.host.rebootDomain(1);
    await host.states(1, '4', '4', 2);
    await host.host.rebootDomain(2);
    await host.states(1, '4', '4', 3);
    expect(host.log.filter(({ level }) => level === 'error')).toMatchObject([
      { msg: `${bad} cannot be used: it is no JSON; it is left as it is` },
    ]);
  });
});

describe('a domain that is still being built', () => {
  it('is left alone until the toolstack has made its primary console, and then not a moment longer', async () => {
    const clock = new FakeClock(1000);
    const { store, env, stop } = await startHost(clock);
    onTestFinished(stop);
    const stateDirectory = `${env.runDirectory}/state`;
    const key = { uuid: uuidFor(1) };
    await new DesiredStore({ directory: stateDirectory, clock }).put(key, { spec: parseChannelSpec({ name: NAME }) });
    const events = new EventLog(clock);
    const { runDirectory } = env;
    const restorer = new Restorer({ store, clock, log: silentLogger, events, runDirectory, stateDirectory });
    onTestFinished(() => restorer.stop());
    await addDomain(store, 1);
    restorer.domainsChanged();
    await until('it waits', () => restorer.status()[0]?.code === 'not-settled' && clock.pending === 1);
    expect(await store.exists(frontendPath(1, 1))).toBe(false);
    await store.mkdir('/libxl/1/device/console/0');
    restorer.domainSettled(1);
    await until('it is attached', () => events.since(0).events.some(({ type }) => type === 'restored'));
    expect(await store.readText(`${frontendPath(1, 1)}/name`)).toBe(NAME);
    // The guest never begins: the looks end.
    await until('it is given up', () => {
      clock.advance(20_000);
      return restorer.status()[0]?.givenUp === true;
    });
    expect(restorer.status()).toMatchObject([{ state: 'waiting', code: 'guest-not-ready' }]);
    expect(clock.pending).toBe(0);
  });
});
