import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { ChannelError } from '../../src/base/errors.js';
import { channelWrites } from '../../src/console/layout.js';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import { type AttachResult, attach } from '../../src/dom0/attach.js';
import { type DetachRequest, detach } from '../../src/dom0/detach.js';
import { permissions } from '../../xenstore/index.js';
import { FakeClock } from '../support/fake-clock.js';
import {
  addDomain,
  addToolstackChannel,
  fakeDaemon,
  fakeGuest,
  serveControl,
  startHost,
  type TestHost,
} from './host.js';

const FRONTEND = '/local/domain/1/device/console/1';
const BACKEND = '/local/domain/0/backend/console/1/1';
const LIBXL = '/libxl/1/device/console/1';
const ADDRESS = { domid: 1, deviceId: 1, backendDomid: 0 };

let host: TestHost;
let clock: FakeClock;
let empty: string[];

beforeEach(async () => {
  clock = new FakeClock();
  host = await startHost(clock);
  await addDomain(host.store, 1, 'db1');
  empty = host.store.dump();
});
afterEach(() => host.stop());

const plug = (name = 'a', input: Partial<ChannelSpecInput> = {}): Promise<AttachResult> =>
  attach(host.store, { domain: '1', spec: parseChannelSpec({ name, ...input }) }, host.env);
const unplug = (request: Partial<DetachRequest> = {}): ReturnType<typeof detach> =>
  detach(host.store, { domain: 'db1', name: 'a', ...request }, host.env);

const states = async (): Promise<(string | undefined)[]> =>
  Promise.all(
    [`${FRONTEND}/state`, `${BACKEND}/state`, `${BACKEND}/online`].map((path) => host.store.tryReadText(path)),
  );

/** A guest and a daemon that are connected, and then both silent. */
async function connectByHand(): Promise<void> {
  await host.store.write(`${FRONTEND}/state`, '4');
  await host.store.write(`${BACKEND}/state`, '4');
}

/** Lets waits run until a timer is set, then makes it fire. */
async function passTime(byMs: number, timers = 1): Promise<void> {
  for (let fired = 0; fired < timers; fired++) {
    while (clock.pending === 0) await new Promise(setImmediate);
    clock.advance(byMs);
    await new Promise(setImmediate);
  }
}

async function failureOf(pending: Promise<unknown>): Promise<string> {
  const error = await pending.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ChannelError);
  const { code, exitCode, message } = error as ChannelError;
  return `${code} (${exitCode}): ${message}`;
}

describe('detach', () => {
  it('closes with the guest and the daemon, and leaves the tree as it was before attach', async () => {
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1);
    await attach(host.store, { domain: '1', spec: parseChannelSpec({ name: 'a' }), waitMs: 5000 }, host.env);
    expect(await states()).toEqual(['4', '4', '1']);
    expect(await unplug()).toMatchObject({ domid: 1, deviceId: 1, name: 'a', warnings: [] });
    expect(host.store.dump()).toEqual(empty);
  });

  it('leaves no node of the backend or the toolstack where attach made the first of them', async () => {
    await host.store.rm('/libxl');
    const bare = host.store.dump();
    await fakeDaemon(host.store);
    await plug();
    await unplug();
    expect(host.store.dump()).toEqual(bare);
  });

  it('leaves the other channels and their parents alone', async () => {
    await fakeDaemon(host.store);
    await addToolstackChannel(host.store, 1, 1, 'made.by.xl');
    const before = host.store.dump();
    await plug();
    await unplug();
    expect(host.store.dump()).toEqual(before);
  });

  it('asks both ends in one step and removes nothing before they have answered', async () => {
    await plug();
    await connectByHand();
    const pending = unplug();
    while (clock.pending === 0) await new Promise(setImmediate);
    expect(await states()).toEqual(['4', '5', '0']);
    await host.store.write(`${FRONTEND}/state`, '6');
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    expect(await host.store.exists(LIBXL)).toBe(true);
    await host.store.write(`${BACKEND}/state`, '6');
    await pending;
    expect(host.store.dump()).toEqual(empty);
  });

  it('waits for the guest, too, when the backend has closed before it', async () => {
    await plug();
    await connectByHand();
    const pending = unplug();
    while (clock.pending === 0) await new Promise(setImmediate);
    await host.store.write(`${BACKEND}/state`, '6');
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    expect(await host.store.exists(FRONTEND)).toBe(true);
    await host.store.write(`${FRONTEND}/state`, '6');
    await pending;
    expect(host.store.dump()).toEqual(empty);
  });

  it('does not wait for a guest that never looked at the device', async () => {
    await plug();
    const pending = unplug();
    while (clock.pending === 0) await new Promise(setImmediate);
    await host.store.write(`${BACKEND}/state`, '6');
    await pending;
    expect(host.store.dump()).toEqual(empty);
  });

  it('is refused for a channel that is not there, and changes nothing', async () => {
    await plug();
    const before = host.store.dump();
    expect(await failureOf(unplug({ name: 'b' }))).toBe('channel-not-found (3): domain 1 (db1) has no channel "b"');
    expect(await failureOf(unplug({ deviceId: 2 }))).toBe(
      'channel-not-found (3): domain 1 (db1) has no channel "a" with device id 2',
    );
    expect(await failureOf(unplug({ domain: 'db2' }))).toBe(
      'domain-not-found (3): no running domain has the id, name or uuid "db2"; did you mean "db1"?',
    );
    expect(host.store.dump()).toEqual(before);
  });

  it('is refused for a channel of another toolstack, forced or not, and changes nothing', async () => {
    await addToolstackChannel(host.store, 1, 1, 'a');
    const before = host.store.dump();
    for (const force of [false, true]) {
      expect(await failureOf(unplug({ force }))).toMatch(
        /^not-ours \(4\): channel "a" of domain 1 \(db1\) was made by the toolstack/,
      );
    }
    expect(host.store.dump()).toEqual(before);
  });

  it('is not fooled by a type that the guest wrote', async () => {
    await addToolstackChannel(host.store, 1, 1, 'a');
    await host.store.write(`${FRONTEND}/type`, 'xenchannel');
    await host.store.setPermissions(`${FRONTEND}/type`, permissions('n1', 'r0'));
    expect(await failureOf(unplug({ force: true }))).toMatch(/^not-ours/);
  });

  it('wants the device id where a toolstack gave a name twice', async () => {
    await fakeDaemon(host.store);
    await addToolstackChannel(host.store, 1, 1, 'twin');
    await plug();
    await host.store.write('/local/domain/0/backend/console/1/2/name', 'twin');
    const before = host.store.dump();
    expect(await failureOf(unplug({ name: 'twin' }))).toBe(
      'channel-ambiguous (4): domain 1 (db1) has 2 channels called "twin", with device ids 1, 2; say which with --device-id',
    );
    expect(host.store.dump()).toEqual(before);
    expect(await unplug({ name: 'twin', deviceId: 2 })).toMatchObject({ deviceId: 2 });
  });
});

describe('detach that gets no answer', () => {
  it('gives up after its time, removes nothing, and says what was seen', async () => {
    const daemon = await serveControl(host.env, {});
    await plug();
    await connectByHand();
    const pending = failureOf(unplug({ timeoutMs: 4000 }));
    await passTime(4000);
    expect(await pending).toBe(
      'wait-timeout (6): channel "a" of domain 1 (db1) did not close within 4 s: the frontend is connected (4), the backend closing (5); its backend still has the ring and keeps its nodes; repeat the command to go on waiting, or use --force',
    );
    expect(await host.store.exists(FRONTEND)).toBe(true);
    expect(await host.store.exists(LIBXL)).toBe(true);
    daemon.close();
  });

  it('says so when no daemon runs that could answer', async () => {
    await plug();
    await connectByHand();
    const pending = failureOf(unplug());
    await passTime(10_000);
    expect(await pending).toBe(
      `wait-timeout (6): channel "a" of domain 1 (db1) did not close within 10 s: the frontend is connected (4), the backend closing (5); no daemon answers at ${host.env.runDirectory}, so nobody will ever close it: start one, or use --force`,
    );
  });

  it('can be repeated, and then goes on where it was', async () => {
    await plug();
    await connectByHand();
    const first = failureOf(unplug());
    await passTime(10_000);
    await first;
    const second = unplug();
    while (clock.pending === 0) await new Promise(setImmediate);
    expect(await states()).toEqual(['4', '5', '0']);
    await host.store.write(`${FRONTEND}/state`, '6');
    await host.store.write(`${BACKEND}/state`, '6');
    await second;
    expect(host.store.dump()).toEqual(empty);
  });

  it('never touches what was attached anew in the meantime', async () => {
    await plug();
    await connectByHand();
    const pending = unplug();
    while (clock.pending === 0) await new Promise(setImmediate);
    // In one step, so that the wait sees nothing but the newcomer.
    await host.store.transaction(async (tx) => {
      for (const path of [FRONTEND, BACKEND, LIBXL]) await tx.rm(path);
      const spec = parseChannelSpec({ name: 'newcomer' });
      for (const { path, value, permissions: wanted } of channelWrites(ADDRESS, spec, '/run/newcomer')) {
        await tx.write(path, value);
        await tx.setPermissions(path, wanted);
      }
    });
    const after = host.store.dump();
    await pending;
    expect(host.store.dump()).toEqual(after);
  });
});

describe('a channel of which half is gone', () => {
  it.each([
    ['the frontend', [FRONTEND]],
    ['the backend', [BACKEND]],
    ['the frontend and the backend', [FRONTEND, BACKEND]],
    ['the copy of the toolstack', [LIBXL]],
  ])('can be detached without %s', async (_what, paths) => {
    await fakeDaemon(host.store);
    await plug();
    for (const path of paths) await host.store.rm(path);
    await unplug();
    const left = host.store.dump().filter((line) => line.includes('console'));
    expect(left).toEqual([]);
  });
});

describe('detach by force', () => {
  it('removes the nodes at once when no daemon runs, and says so', async () => {
    await plug();
    await connectByHand();
    expect((await unplug({ force: true })).warnings).toEqual([
      'no daemon answers, so nobody can have the ring mapped: the nodes were removed without a handshake',
    ]);
    expect(host.store.dump()).toEqual(empty);
  });

  it('says nothing where guest and daemon close in time', async () => {
    const control = await serveControl(host.env, {});
    await plug();
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1);
    await connectByHand();
    expect((await unplug({ force: true })).warnings).toEqual([]);
    expect(host.store.dump()).toEqual(empty);
    control.close();
  });

  it('takes the device from a silent guest first, and waits until the daemon has let go', async () => {
    const control = await serveControl(host.env, {});
    await plug();
    await fakeDaemon(host.store);
    await connectByHand();
    const pending = unplug({ force: true });
    await passTime(2000);
    expect((await pending).warnings).toEqual(['the guest did not close its end: its device was taken away']);
    expect(host.store.dump()).toEqual(empty);
    control.close();
  });

  it('keeps the nodes of the backend while a running daemon holds the ring', async () => {
    const control = await serveControl(host.env, {});
    await plug();
    await connectByHand();
    const pending = failureOf(unplug({ force: true }));
    await passTime(2000, 2);
    expect(await pending).toMatch(
      /^wait-timeout \(6\): .* did not close within 4 s: the frontend is gone, the backend closing \(5\)/,
    );
    expect(await host.store.exists(BACKEND)).toBe(true);
    expect(await host.store.exists(LIBXL)).toBe(true);
    control.close();
  });
});

describe('any sequence of attach and detach', () => {
  const step = fc.record({ attach: fc.boolean(), name: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i') });

  it('keeps the ids in 1 to 7 and unique, and leaves no node', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const { store, env, stop } = await startHost(systemClock);
        await addDomain(store, 1);
        const before = store.dump();
        await fakeDaemon(store);
        const attached = new Map<string, number>();
        for (const { attach: add, name } of steps) {
          if (add) {
            const result = await attach(store, { domain: '1', spec: parseChannelSpec({ name }) }, env).catch(
              (error: unknown) => error as ChannelError,
            );
            if (result instanceof ChannelError) {
              expect(result.code).toBe(attached.has(name) ? 'name-in-use' : 'device-ids-exhausted');
              if (!attached.has(name)) expect(attached.size).toBe(7);
            } else {
              expect([...attached.values()]).not.toContain(result.deviceId);
              expect(result.deviceId).toBeGreaterThanOrEqual(1);
              expect(result.deviceId).toBeLessThanOrEqual(7);
              attached.set(name, result.deviceId);
            }
          } else {
            const result = await detach(store, { domain: '1', name }, env).catch(
              (error: unknown) => error as ChannelError,
            );
            if (result instanceof ChannelError)
              expect([result.code, attached.has(name)]).toEqual(['channel-not-found', false]);
            else expect(result.deviceId).toBe(attached.get(name));
            attached.delete(name);
          }
        }
        for (const name of attached.keys()) await detach(store, { domain: '1', name }, env);
        expect(store.dump()).toEqual(before);
        await stop();
      }),
      { numRuns: 40 },
    );
  });
});
