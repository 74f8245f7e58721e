import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BackendDaemon } from '../../src/backend/daemon.js';
import { defaultChardev } from '../../src/backend/make-chardev.js';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/log.js';
import type { ChardevEvents } from '../../src/chardev/chardev.js';
import { backendPath, frontendPath, KEY } from '../../src/console/layout.js';
import { permissions } from '../../xenstore/index.js';
import { DaemonHost } from '../support/daemon-host.js';
import { until } from '../support/until.js';

const FRONTEND = frontendPath(1, 1);
const BACKEND = backendPath({ domid: 1, deviceId: 1, backendDomid: 0 });

describe('a channel that is attached while the daemon runs', () => {
  it('reaches 4/4, has a socket, and carries bytes both ways', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    tty.openLine();
    const client = await host.client(path);
    tty.send('from the guest');
    await until('the client has it', () => client.received.toString() === 'from the guest');
    client.socket.write('from the client');
    let heard = '';
    await until('the guest has it', () => {
      heard += tty.receive();
      return heard === 'from the client';
    });
    expect(host.channel()).toMatchObject({ phase: 'connected', fromGuestBytes: 14, toGuestBytes: 15, silent: false });
  });

  it('has its socket by the time it is called connected', async () => {
    const host = await DaemonHost.start({ daemon: false });
    let letOpen = (): void => {};
    const mayOpen = new Promise<void>((settle) => {
      letOpen = settle;
    });
    const { store, host: simulated } = host;
    const daemon = await BackendDaemon.start({
      store,
      hypervisor: simulated.hypervisor.openBackend(0),
      clock: systemClock,
      log: silentLogger,
      runDirectory: simulated.runDirectory,
      createChardev: (config, context) => {
        const chardev = defaultChardev(config, context);
        const open = chardev.open.bind(chardev);
        return Object.assign(chardev, { open: (events: ChardevEvents) => mayOpen.then(() => open(events)) });
      },
    });
    onTestFinished(() => daemon.stop());
    const { path } = await host.attach();
    await until('the ring is served', () => daemon.status().channels[0]?.phase === 'connected');
    const seen = [];
    for (let look = 0; look < 50; look++) seen.push(await store.readText(`${BACKEND}/state`));
    expect(seen).toEqual(seen.map(() => '2'));
    letOpen();
    await host.states(1, '4', '4');
    expect(existsSync(path)).toBe(true);
  });

  it('is served where it stood before the daemon came', async () => {
    const host = await DaemonHost.start({ daemon: false });
    await host.attach();
    await host.states(1, '3', '2');
    await host.host.startDaemon();
    await host.states(1, '4', '4');
    expect(host.channel().gap).toBeNull();
  });

  it('tells the guest when a host client comes and goes, in a key that the guest can only read', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug();
    const key = `${FRONTEND}/${KEY.hostOpen}`;
    const told = async (value: string): Promise<void> => {
      await host.store.waitUntil(async (store) => (await store.tryReadText(key)) === value, {
        what: `${key} is ${value}`,
        paths: [key],
        timeoutMs: 5000,
      });
    };
    await told('0');
    expect(await host.store.getPermissions(key)).toEqual(permissions('n0', 'r1'));
    const client = await host.client(path);
    await told('1');
    client.socket.destroy();
    await told('0');
  });

  it('gets a socket with the mode that was asked for', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug({ mode: 0o600 });
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('is drained although its path belongs to somebody else, and gets it when it is free', async () => {
    const host = await DaemonHost.start();
    const path = `${host.host.root}/taken`;
    const other = createServer((socket) => void socket.destroy()).listen(path);
    await until('the other server listens', () => existsSync(path));
    await host.attach({ path });
    await host.states(1, '4', '4');
    await until('the daemon says so', () => host.channel().problems.length > 0);
    expect(host.channel().problems).toMatchObject([{ code: 'path-in-use' }]);
    host.lines.at(-1)?.send('not lost');
    await until('it is drained', () => host.channel().spoolBytes === 8);
    await new Promise((settle) => other.close(settle));
    await until('the daemon has the path', () => host.channel().problems.length === 0);
    const client = await host.client(path);
    await until('the client has it', () => client.received.toString() === 'not lost');
  });

  it('is answered when its guest asks which line it is, and the question is gone', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug();
    tty.openLine();
    const nonce = '00112233445566778899aabbccddeeff';
    await host.store.write(`${FRONTEND}/${KEY.identify}`, nonce);
    let heard = '';
    await until('the guest has the answer', () => {
      heard += tty.receive();
      return heard.length > 0;
    });
    expect(heard).toBe(`XCID ${nonce}\n`);
    expect(await host.store.exists(`${FRONTEND}/${KEY.identify}`)).toBe(false);
    expect(host.channel()).toMatchObject({ identifyAnswers: 1, silent: true });
  });

  it.each(['XCID', '0123456789ABCDEF', '0123456789abcde', 'a'.repeat(65), '0123456789abcdef\n', ''])(
    'leaves the question %j unanswered, removes it and counts it',
    async (question) => {
      const host = await DaemonHost.start();
      await host.plug();
      await host.store.write(`${FRONTEND}/${KEY.identify}`, question);
      await until('it is counted', () => host.channel().malformed === 1);
      expect(await host.store.exists(`${FRONTEND}/${KEY.identify}`)).toBe(false);
      expect(host.channel().identifyAnswers).toBe(0);
    },
  );

  it('stays silent until the guest claims to have opened its line', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    tty.openLine();
    const client = await host.client(path);
    client.socket.write('{"execute":"guest-ping"}');
    await until('it is held back', () => host.channel().inputBytes === 24);
    expect(host.channel()).toMatchObject({ silent: true, toGuestBytes: 0, guestOpen: null });
    await host.store.write(`${FRONTEND}/${KEY.guestOpen}`, '1');
    await until('it is released', () => host.channel().toGuestBytes === 24);
    expect(tty.receive().toString()).toBe('{"execute":"guest-ping"}');
    expect(host.channel()).toMatchObject({ silent: false, guestOpen: true });
  });
});

describe('the backend state', () => {
  it('is put right when a QEMU of the domain writes its 1 into it', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    await host.store.write(`${BACKEND}/state`, '1');
    await host.states(1, '4', '4');
    expect(host.channel().connects).toBe(1);
  });

  it('is never written into a directory that the toolstack has removed', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    await host.store.rm(BACKEND);
    await until('it is over', () => !host.isServed());
    await host.store.write(`${FRONTEND}/state`, '6');
    expect(await host.store.exists(BACKEND)).toBe(false);
    expect(host.host.hypervisor.mappedPages()).toBe(0);
  });
});

describe('a change of the backend nodes', () => {
  it('that lets the host speak first counts at once, without a new connection', async () => {
    const host = await DaemonHost.start();
    const { path, tty } = await host.plug();
    tty.openLine();
    const client = await host.client(path);
    client.socket.write('ping');
    await until('it is held back', () => host.channel().inputBytes === 4);
    await host.store.write(`${BACKEND}/${KEY.speakFirst}`, '1');
    await until('it is released', () => host.channel().toGuestBytes === 4);
    expect(host.channel()).toMatchObject({ connects: 1, hostOpen: true });
  });

  it('of limit or mode leaves a served channel as it is', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug();
    const client = await host.client(path);
    await host.store.write(`${BACKEND}/${KEY.limit}`, '8192');
    await host.plug({ name: 'org.example.b' });
    expect(host.channel()).toMatchObject({ connects: 1, spoolLimitBytes: 1024 * 1024 });
    expect(client.ended).toBe(false);
  });
});

describe('what is not ours', () => {
  it('is never touched: a channel that libxl made', async () => {
    const host = await DaemonHost.start({ domains: 0 });
    const channels = [
      { name: 'org.example.a', connection: 'socket', path: '/run/nothing' },
      { name: 'org.example.b', connection: 'pty' },
    ] as never;
    await host.host.createDomain({ channels });
    await host.states(1, '3', '1');
    await host.store.write(`${BACKEND}/hotplug-status`, 'connected');
    await host.attach({ name: 'org.example.c' });
    await host.states(3, '4', '4');
    expect(host.status.channels.map(({ deviceId }) => deviceId)).toEqual([3]);
    expect(await host.store.readText(`${BACKEND}/state`)).toBe('1');
    expect(await host.store.exists(`${FRONTEND}/${KEY.hostOpen}`)).toBe(false);
  });

  it('is what a guest declares to be: it cannot give itself a channel', async () => {
    const host = await DaemonHost.start();
    await host.attach({ backend: 'native' });
    await host.states(1, '4', '4');
    // As with xend_suspend_evtchn_compat=1, where the guest owns `device` and can make a frontend of its own.
    const fake = frontendPath(1, 2);
    const backend = backendPath({ domid: 1, deviceId: 2, backendDomid: 0 });
    for (const [key, value] of [
      ['frontend', fake],
      ['frontend-id', '1'],
      ['online', '1'],
      ['state', '1'],
      ['name', 'org.example.libxl'],
    ]) {
      await host.store.write(`${backend}/${key}`, value as string);
    }
    // In one step, as the guest owns what it makes from the first moment on.
    await host.store.transaction(async (tx) => {
      await tx.write(`${fake}/type`, 'xenchannel');
      await tx.setPermissions(`${fake}/type`, permissions('n1', 'r0'));
    });
    await host.store.write(`${backend}/poke`, '');
    await host.host.stopDaemon();
    await host.host.startDaemon();
    expect(host.status.channels.map(({ deviceId }) => deviceId)).toEqual([1]);
    expect(await host.store.readText(`${backend}/state`)).toBe('1');
  });

  it.each<[string, string, string]>([
    ['frontend', frontendPath(2, 1), 'backend-malformed'],
    ['frontend-id', '2', 'backend-malformed'],
    ['name', '../../etc/passwd', 'name-illegal'],
    ['path', 'relative/path', 'path-illegal'],
    ['path', `/${'x'.repeat(107)}`, 'path-too-long'],
    [KEY.mode, '99', 'backend-malformed'],
    [KEY.limit, '0', 'backend-malformed'],
  ])('is refused with its reason where %s is %s', async (key, value, code) => {
    const host = await DaemonHost.start({ daemon: false });
    await host.attach();
    await host.store.write(`${BACKEND}/${key}`, value);
    await host.host.startDaemon();
    expect(host.status.channels).toEqual([]);
    expect(host.status.refused).toMatchObject([{ domid: 1, deviceId: 1, code }]);
  });
});

describe('the daemon itself', () => {
  it('goes on when xenstored was restarted: what happened meanwhile is found', async () => {
    const { startStore } = await import('../support/simulated-store.js');
    const { BackendDaemon } = await import('../../src/backend/daemon.js');
    const { silentLogger } = await import('../../src/base/log.js');
    const { SimulatedHypervisor } = await import('../../src/hypervisor/simulated.js');
    const { channelWrites } = await import('../../src/console/layout.js');
    const { parseChannelSpec } = await import('../../src/console/spec.js');
    const { temporaryDirectory } = await import('../support/temp-directory.js');
    const { systemClock } = await import('../../src/base/clock.js');
    const store = await startStore();
    onTestFinished(() => store.stop());
    const hypervisor = new SimulatedHypervisor();
    const daemonStore = await store.connect({ reconnect: { firstDelayMs: 1 } });
    const daemon = await BackendDaemon.start({
      store: daemonStore,
      hypervisor: hypervisor.openBackend(),
      clock: systemClock,
      log: silentLogger,
      runDirectory: temporaryDirectory('xc-'),
    });
    onTestFinished(() => daemon.stop());
    const attach = async (deviceId: number): Promise<void> => {
      const admin = await store.connect();
      const address = { domid: 1, deviceId, backendDomid: 0 };
      const spec = parseChannelSpec({ name: `org.example.${deviceId}` });
      const path = `${daemon.status().runDirectory}/dom1/${deviceId}`;
      await admin.transaction(async (tx) => {
        for (const node of channelWrites(address, spec, path)) {
          await tx.write(node.path, node.value);
          await tx.setPermissions(node.path, node.permissions);
        }
      });
    };
    store.engine.introduceDomain(1);
    await attach(1);
    await until('the first is served', () => daemon.status().channels.length === 1);
    await store.restart();
    await attach(2);
    await until('the second is served', () => daemon.status().channels.length === 2);
  });

  it('gives every channel its turn while one is busy', async () => {
    const host = await DaemonHost.start();
    const busy = await host.plug({ name: 'org.example.busy' });
    const calm = await host.plug({ name: 'org.example.calm' });
    const client = await host.client(calm.path);
    calm.tty.openLine();
    let stop = false;
    onTestFinished(() => {
      stop = true;
    });
    const write = (): void => {
      if (stop) return;
      busy.tty.send(randomBytes(256 * 1024));
      setImmediate(write);
    };
    write();
    for (let round = 1; round <= 20; round++) {
      calm.tty.send('tick');
      const turn = host.channel(busy.deviceId).fromGuestBytes;
      await until('the calm one is heard', () => client.received.length === 4 * round);
      expect(host.channel(busy.deviceId).fromGuestBytes - turn).toBeLessThan(32 * 1024 * 1024);
    }
    stop = true;
  });

  it('refuses to start beside another one on the same run directory, which goes on undisturbed', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    const { BackendDaemon } = await import('../../src/backend/daemon.js');
    const { silentLogger } = await import('../../src/base/log.js');
    const rights = host.host.hypervisor.openBackend();
    onTestFinished(() => rights.close());
    await expect(
      BackendDaemon.start({
        store: host.store,
        hypervisor: rights,
        clock: host.env.clock,
        log: silentLogger,
        runDirectory: host.host.runDirectory,
      }),
    ).rejects.toMatchObject({ code: 'path-in-use' });
    expect(host.channel().phase).toBe('connected');
    expect((await host.get('/v1/health')).code).toBe(200);
  });

  it('says so when somebody else serves a ring, tries again, and serves it when it is free', async () => {
    const host = await DaemonHost.start({ daemon: false });
    await host.attach();
    await host.states(1, '3', '2');
    const rival = host.host.hypervisor.openBackend();
    const port = Number(await host.store.readText(`${FRONTEND}/port`));
    const bound = rival.events.bind(1, port, () => {});
    await host.host.startDaemon();
    expect(host.channel().problems).toMatchObject([{ code: 'port-unbindable' }]);
    expect(host.host.hypervisor.mappedPages()).toBe(0);
    bound.close();
    await host.states(1, '4', '4');
    rival.close();
  });

  it('answers status and health on its control socket, and nothing else', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    expect(await host.get('/v1/health')).toEqual({ code: 200, body: { ok: true } });
    const { body } = await host.get('/v1/status?x=y');
    expect(body).toMatchObject({ backendDomid: 0, channels: [{ domid: 1, deviceId: 1, name: 'org.example.a' }] });
    expect((await host.get('/v1/other')).code).toBe(404);
    expect((await host.get('/v1/status', 'POST')).code).toBe(405);
    expect(statSync(`${host.host.runDirectory}/control.sock`).mode & 0o777).toBe(0o660);
  });

  it('leaves no descriptor and no timer behind', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    await host.host.stopDaemon();
    const open = (): number => readdirSync('/proc/self/fd').length;
    // The store's own side of the connection that has just ended closes a little later.
    for (let turn = 0; turn < 50; turn++) await new Promise((settle) => setImmediate(settle));
    const before = open();
    for (let round = 0; round < 3; round++) {
      await host.host.startDaemon();
      const client = await host.client(host.channel().path);
      await until('the client is seen', () => host.channel().hostOpen);
      if (round === 1) await host.host.crashDaemon();
      else await host.host.stopDaemon();
      await until('the client has seen the end', () => client.ended);
      client.socket.destroy();
    }
    await until('all descriptors are closed', () => open() === before);
    expect(host.host.hypervisor.mappedPages()).toBe(0);
    expect(host.host.hypervisor.boundPorts()).toBe(0);
  });
});
