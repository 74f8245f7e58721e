import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Rig, TestBackend, until } from './rig.js';

let rig: Rig;
afterEach(async () => {
  await rig.stop();
});

const states = async (...deviceIds: number[]) => Promise.all(deviceIds.map((id) => rig.frontendState(id)));

describe('a simulated Linux plugs consoles', () => {
  it('publishes ring and port in one transaction, then state 3, and follows the backend to 4', async () => {
    rig = await Rig.start();
    const seen: string[] = [];
    await rig.store.watch('/local/domain/1/device/console/1', (path) =>
      seen.push(path.slice(path.lastIndexOf('/') + 1)),
    );
    const { backend } = await rig.connect(1);
    const { reference, port } = rig.device(1);
    expect(await rig.store.readText('/local/domain/1/device/console/1/ring-ref')).toBe(String(reference));
    expect(await rig.store.readText('/local/domain/1/device/console/1/port')).toBe(String(port));
    await until(() => seen.length - seen.indexOf('ring-ref') === 4);
    expect(seen.slice(seen.indexOf('ring-ref'))).toEqual(['ring-ref', 'port', 'state', 'state']);
    expect(backend.page.bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('probes what is there at boot, in the order of the directory', async () => {
    rig = await Rig.start({}, async (early) => {
      await early.plug(2);
      await early.plug(1);
    });
    expect(rig.guest.devices.map(({ nodename, hvcIndex }) => [nodename, hvcIndex])).toEqual([
      ['device/console/2', 1],
      ['device/console/1', 2],
    ]);
  });

  it('sends add and bind, and shows the device in sysfs', async () => {
    rig = await Rig.start();
    await rig.connect(2);
    expect(rig.uevents).toEqual(['add /devices/console-2', 'bind /devices/console-2']);
    const directory = join(rig.root, 'sys/bus/xen/devices/console-2');
    const shown = Object.fromEntries(
      readdirSync(directory).map((key) => [key, readFileSync(join(directory, key), 'utf8')]),
    );
    expect(shown).toEqual({
      nodename: 'device/console/2\n',
      devtype: 'console\n',
      modalias: 'xen:console\n',
      state: 'Connected\n',
    });
  });

  it('numbers the inodes of sysfs in the order of probing, however often devices come and go', async () => {
    rig = await Rig.start();
    for (const deviceId of [3, 1, 2]) await rig.connect(deviceId);
    await rig.unplug(3);
    await until(() => rig.guest.devices.length === 2);
    await rig.connect(3);
    const inodes = [1, 2, 3].map((id) => statSync(join(rig.root, `sys/bus/xen/devices/console-${id}`)).ino);
    expect(inodes).toEqual([...inodes].sort((a, b) => a - b));
  });

  it('gives each console the lowest free line, whatever its device id', async () => {
    rig = await Rig.start();
    for (const deviceId of [1, 5, 3]) await rig.connect(deviceId);
    expect([1, 5, 3].map((id) => rig.device(id).hvcIndex)).toEqual([1, 2, 3]);
    await rig.unplug(1);
    await until(() => rig.guest.devices.length === 2);
    await rig.connect(7);
    expect(rig.device(7).hvcIndex).toBe(1);
  });

  it('gives the first channel hvc0 where there is no primary console', async () => {
    rig = await Rig.start({ primary: false });
    await rig.connect(1);
    expect(rig.device(1).hvcIndex).toBe(0);
    expect(existsSync(join(rig.root, 'sys/class/tty/console/active'))).toBe(false);
  });

  it('closes a console whose id ends in 0 and never binds it', async () => {
    rig = await Rig.start();
    await rig.plug(10);
    await rig.frontendReaches(10, 6);
    expect(rig.uevents).toEqual(['add /devices/console-10']);
    expect(rig.device(10).hvcIndex).toBeUndefined();
    expect([rig.hypervisor.mappedPages(), rig.guest.warnings]).toEqual([0, 0]);
  });

  it('connects a console whose last digit is taken, but nobody can reach it', async () => {
    rig = await Rig.start();
    const good = await rig.connect(1);
    good.tty.openLine();
    const dead = await rig.connect(11);
    expect(rig.device(11)).toMatchObject({ state: 'connected', hvcIndex: 1 });
    expect(rig.memory.lines.length).toBe(2);
    dead.backend.send('to nobody');
    good.backend.send('to hvc1');
    expect(good.tty.receive().toString()).toBe('to hvc1');
    expect(rig.device(11).figures?.inBytes).toBe(0);
  });

  it('frees the line of the good console when the dead one of the same digit goes', async () => {
    rig = await Rig.start();
    const good = await rig.connect(1);
    await rig.connect(11);
    await rig.unplug(11);
    await until(() => rig.guest.devices.length === 1);
    await rig.connect(2);
    expect(rig.device(2).hvcIndex).toBe(1);
    good.tty.openLine();
    good.backend.send('still mine');
    expect(good.tty.receive().toString()).toBe('still mine');
  });

  it('connects more consoles than there are lines, and the last ones are dead', async () => {
    rig = await Rig.start();
    for (let deviceId = 1; deviceId <= 9; deviceId++) await rig.connect(deviceId);
    expect(rig.device(9)).toMatchObject({ state: 'connected', hvcIndex: 9 });
    expect(rig.memory.lines.length).toBe(8);
  });

  it('leaves a console alone for good when it may not write its state', async () => {
    rig = await Rig.start();
    // Key by key, without permissions: what xenstore-write does.
    const frontend = '/local/domain/1/device/console/1';
    await rig.store.write(`${frontend}/backend-id`, '0');
    await rig.store.write(`${frontend}/backend`, rig.backend(1));
    await rig.store.write(`${frontend}/state`, '1');
    await until(() => rig.guest.devices.length === 1);
    await rig.setBackendState(1, 4);
    await rig.connect(2); // long enough for a second try
    expect(await states(1, 2)).toEqual(['1', '4']);
    expect(rig.uevents.filter((event) => event.endsWith('console-1'))).toEqual(['add /devices/console-1']);
    expect(rig.device(2).hvcIndex).toBe(1);
  });

  it('does not look at a frontend that is past state 1', async () => {
    rig = await Rig.start({}, async (early) => {
      await early.plug(1);
      await early.store.write('/local/domain/1/device/console/1/state', '4');
    });
    expect(rig.guest.devices).toEqual([]);
  });
});

describe('a simulated Linux unplugs consoles', () => {
  it('hangs up the line, then closes; the slot is free and the page still lent', async () => {
    rig = await Rig.start();
    const { tty } = await rig.connect(1);
    tty.openLine();
    await rig.setBackendState(1, 5);
    await rig.frontendReaches(1, 6);
    expect(tty.receive()).toBe('end');
    expect(rig.hypervisor.mappedPages()).toBe(1);
    await rig.connect(2);
    expect(rig.device(2).hvcIndex).toBe(1);
  });

  it('leaves the line alive on kernels without the fix', async () => {
    rig = await Rig.start({ kernelVersion: '5.10' });
    const { tty, backend } = await rig.connect(1);
    tty.openLine();
    await rig.setBackendState(1, 5);
    await rig.frontendReaches(1, 6);
    tty.send('still here');
    expect(backend.received.toString()).toBe('still here');
  });

  it('sends unbind and remove, and warns of nothing, when the backend has unmapped before', async () => {
    rig = await Rig.start();
    const { backend } = await rig.connect(1);
    await rig.setBackendState(1, 5);
    await rig.frontendReaches(1, 6);
    backend.hypervisor.close();
    await rig.unplug(1);
    await until(() => rig.guest.devices.length === 0);
    expect(rig.uevents.slice(2)).toEqual(['unbind /devices/console-1', 'remove /devices/console-1']);
    expect(rig.guest.warnings).toBe(0);
    expect(readdirSync(join(rig.root, 'sys/bus/xen/devices'))).toEqual([]);
  });

  it('corrupts its page tables when the nodes vanish while the backend maps the page', async () => {
    rig = await Rig.start();
    await rig.connect(1);
    await rig.unplug(1);
    await until(() => rig.guest.devices.length === 0);
    expect(rig.guest.warnings).toBe(1);
  });

  it('takes no part in the removal when its power is off', async () => {
    rig = await Rig.start();
    await rig.connect(1);
    await rig.guest.powerOff();
    await rig.unplug(1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(rig.hypervisor.guestWarnings()).toBe(0);
    expect(readdirSync(rig.root)).toEqual([]);
  });
});

describe('the bytes of a simulated console', () => {
  it('stay in the ring until somebody opens the line', async () => {
    rig = await Rig.start();
    const { backend, tty } = await rig.connect(1);
    backend.send(Buffer.alloc(3000, 'x'));
    expect(backend.unsentBytes).toBe(3000 - 1024);
    tty.openLine();
    await until(() => backend.unsentBytes === 0);
    expect(tty.receive().length).toBe(3000);
  });

  it('are not taken from the ring faster than the application reads', async () => {
    rig = await Rig.start();
    const { backend, tty } = await rig.connect(1);
    tty.openLine();
    backend.send(Buffer.alloc(10_000, 'y'));
    await until(() => tty.heldBytes === 4096);
    await new Promise((resolve) => setImmediate(resolve));
    expect(backend.unsentBytes).toBe(10_000 - 4096 - 1024);
    let got = 0;
    await until(() => {
      got += tty.receive().length;
      return got === 10_000;
    });
  });

  it('arrive unchanged, both ways at once', async () => {
    rig = await Rig.start();
    const { backend, tty } = await rig.connect(1);
    tty.openLine();
    const out = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7) & 0xff));
    const down = Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * 13) & 0xff));
    backend.send(down);
    tty.send(out);
    const parts: Buffer[] = [];
    await until(() => {
      const part = tty.receive();
      if (part !== 'end') parts.push(part);
      return Buffer.concat(parts).length >= down.length && backend.received.length >= out.length;
    });
    expect(Buffer.concat(parts).equals(down)).toBe(true);
    expect(backend.received.equals(out)).toBe(true);
    expect(rig.device(1).figures).toMatchObject({ outBytes: 300_000, inBytes: 50_000, spins: 0, illegalIndices: 0 });
  });

  it('make the vCPU spin while the backend does not drain, and the time is counted', async () => {
    rig = await Rig.start();
    const { backend, tty } = await rig.connect(1);
    tty.openLine();
    backend.draining = false;
    tty.send(Buffer.alloc(2048));
    expect(rig.device(1).figures?.spinning).toBe(false);
    tty.send('one too many');
    rig.clock.advance(250);
    expect(rig.device(1).figures).toMatchObject({ spins: 1, spinMs: 250, spinning: true });
    backend.draining = true;
    backend.turn();
    rig.clock.advance(100);
    expect(rig.device(1).figures).toMatchObject({ spins: 1, spinMs: 250, spinning: false });
    expect(backend.received.subarray(2048).toString()).toBe('one too many');
  });

  it('wait for a backend that comes later, and go on with the next one after a crash', async () => {
    rig = await Rig.start();
    const { backend, tty } = await rig.connect(1);
    tty.openLine();
    backend.hypervisor.crash();
    tty.send('while dead');
    const { reference, port } = rig.device(1);
    const next = new TestBackend(rig.hypervisor, reference ?? -1, port ?? -1);
    await until(() => next.received.toString() === 'while dead');
    next.send('hello again');
    await until(() => tty.heldBytes > 0);
    expect(tty.receive().toString()).toBe('hello again');
  });

  it('are thrown away, as Linux does, when the backend publishes an illegal index', async () => {
    rig = await Rig.start();
    const { backend, tty } = await rig.connect(1);
    tty.openLine();
    Atomics.store(backend.page.words, 770, 5000); // out_cons ahead of out_prod
    Atomics.store(backend.page.words, 769, 1025); // in_prod more than a ring ahead
    tty.send('lost');
    expect(rig.device(1).figures).toMatchObject({ discardedBytes: 4, outBytes: 0, inBytes: 0 });
    expect(rig.device(1).figures?.illegalIndices).toBeGreaterThan(1);
    expect(tty.heldBytes).toBe(0);
  });
});
