import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ChannelError } from '../../src/base/errors.js';
import { channelWrites, libxlPath } from '../../src/console/layout.js';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import { type AttachRequest, type AttachResult, attach } from '../../src/dom0/attach.js';
import { formatText } from '../../src/dom0/plan.js';
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
  uuidFor,
} from './host.js';

let host: TestHost;
let clock: FakeClock;

beforeEach(async () => {
  clock = new FakeClock();
  host = await startHost(clock);
  await addDomain(host.store, 1, 'db1');
  await addDomain(host.store, 2, 'web');
});
afterEach(() => host.stop());

const plug = (input: Partial<ChannelSpecInput> = {}, request: Partial<AttachRequest> = {}): Promise<AttachResult> =>
  attach(
    host.store,
    { domain: 'db1', ...request, spec: parseChannelSpec({ name: 'org.example.a', ...input }) },
    host.env,
  );

/** Runs an attach that must be refused; the tree must be the same to the last permission. */
async function refusal(run: () => Promise<unknown>): Promise<string> {
  const before = host.store.dump();
  const error = await run().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(host.store.dump()).toEqual(before);
  expect(error).toBeInstanceOf(ChannelError);
  const { code, exitCode, message } = error as ChannelError;
  return `${code} (${exitCode}): ${message}`;
}

describe('attach', () => {
  it('writes every node of the channel with its permissions', async () => {
    const before = host.store.dump();
    const result = await plug();
    const address = { domid: 1, deviceId: 1, backendDomid: 0 };
    const path = `${host.env.runDirectory}/dom1/org.example.a`;
    const expected = channelWrites(address, parseChannelSpec({ name: 'org.example.a' }), path);
    expect(result.writes).toEqual(expected);
    for (const node of expected) {
      expect([node.path, await host.store.readText(node.path)]).toEqual([node.path, node.value]);
      expect([node.path, await host.store.getPermissions(node.path)]).toEqual([node.path, node.permissions]);
    }
    const formatted = formatText(expected).trimEnd().split('\n');
    const parents = [
      '/local/domain/0/backend = ""   (n0)',
      '/local/domain/0/backend/console = ""   (n0)',
      '/local/domain/0/backend/console/1 = ""   (n0)',
      '/local/domain/1/device/console = ""   (n0,r1)',
      '/libxl/1/device/console = ""   (n0)',
    ];
    expect(host.store.dump().filter((line) => !before.includes(line))).toEqual([...formatted, ...parents].sort());
  });

  it('tells where the channel is', async () => {
    expect(await plug({}, { domain: uuidFor(2) })).toMatchObject({
      domid: 2,
      deviceId: 1,
      backendDomid: 0,
      domain: { domid: 2, name: 'web', uuid: uuidFor(2) },
      name: 'org.example.a',
      path: `${host.env.runDirectory}/dom2/org.example.a`,
      output: 'chardev:libxl-channel1',
      connected: false,
    });
    expect(await plug({ name: 'p', connection: 'pty' })).toMatchObject({ output: 'pty', connection: 'pty' });
  });

  it('keeps the directory of the consoles from the guest, even where the guest owns the one above', async () => {
    await host.store.setPermissions('/local/domain/1/device', permissions('n1', 'r0'));
    await plug();
    expect(await host.store.getPermissions('/local/domain/1/device/console')).toEqual(permissions('n0', 'r1'));
  });

  it('takes the lowest device id that neither frontend, backend nor toolstack has', async () => {
    await addToolstackChannel(host.store, 1, 1, 'made.by.xl');
    await host.store.write('/local/domain/1/device/console/2/state', '6');
    await host.store.write('/local/domain/0/backend/console/1/3/state', '6');
    await host.store.write('/libxl/1/device/console/4/name', 'left.over');
    expect((await plug()).deviceId).toBe(5);
  });

  it('warns when nothing will serve the channel yet, and is quiet when the daemon runs', async () => {
    expect((await plug()).warnings).toEqual([
      `no daemon answers at ${host.env.runDirectory}: the channel connects as soon as one runs`,
    ]);
    const daemon = await serveControl(host.env, { channels: [] });
    expect((await plug({ name: 'b' })).warnings).toEqual([]);
    daemon.close();
  });

  it('passes on what the daemon says against the channel', async () => {
    const problem = { domid: 1, deviceId: 1, code: 'chardev-unsupported', message: 'this daemon cannot make a pty' };
    const daemon = await serveControl(host.env, { channels: [{ domid: 1, deviceId: 2 }], refused: [problem] });
    expect((await plug({ connection: 'pty' })).warnings).toEqual(['this daemon cannot make a pty']);
    daemon.close();
  });

  it('warns of device ids that a Linux guest may have no tty for', async () => {
    const { deviceId, warnings } = await plug({ deviceId: 8 });
    expect(deviceId).toBe(8);
    expect(warnings[0]).toMatch(/^device id 8 is above 7/);
  });

  it('writes nothing in a dry run and returns the very writes', async () => {
    const before = host.store.dump();
    const dry = await plug({}, { dryRun: true, waitMs: 1000 });
    expect(host.store.dump()).toEqual(before);
    expect(dry.connected).toBe(false);
    expect((await plug()).writes).toEqual(dry.writes);
  });

  it('may take the place of a socket that a dead server left', async () => {
    const path = `${host.env.runDirectory}/stale.sock`;
    const server = createServer();
    await new Promise<void>((listening) => server.listen(path, listening));
    expect((await plug({ path })).path).toBe(path);
    server.close();
  });

  it('gives seven channels attached at once seven different ids, and the eighth none', async () => {
    const results = await Promise.all(Array.from({ length: 7 }, (_, index) => plug({ name: `c${index}` })));
    expect(results.map(({ deviceId }) => deviceId).sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(host.store.conflicts).toBeGreaterThan(0);
    expect(await refusal(() => plug({ name: 'eighth' }))).toBe(
      'device-ids-exhausted (4): all device ids from 1 to 7 are taken: a Linux guest has ttys for 7 channels; detach one first',
    );
  });

  it('gives a name attached twice at once to one of them only', async () => {
    const results = await Promise.allSettled([plug(), plug()]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });
});

describe('attach with a wait', () => {
  it('returns when both ends are connected', async () => {
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1);
    expect((await plug({}, { waitMs: 5000 })).connected).toBe(true);
    expect(await host.store.readText('/local/domain/1/device/console/1/state')).toBe('4');
  });

  it('warns when the guest has put it out of order among its event channels', async () => {
    const daemon = await serveControl(host.env, { channels: [] });
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1); // event channel 9 for every console
    await host.store.write('/local/domain/1/device/vbd/51712/event-channel', '8');
    expect((await plug({ name: 'in-order' }, { waitMs: 5000 })).warnings).toEqual([]);
    await host.store.write('/local/domain/1/device/vbd/51728/event-channel', '10');
    expect((await plug({ name: 'below' }, { waitMs: 5000 })).warnings).toEqual([
      expect.stringMatching(
        /^the guest uses event channel 9 for it, below that of vbd\/51728 \(10\): .*detach it before/,
      ),
    ]);
    daemon.close();
  });

  it('says what was seen when the guest does not come, and leaves the channel attached', async () => {
    const pending = plug({}, { waitMs: 3000 }).catch((error: unknown) => error);
    while (clock.pending === 0) await new Promise(setImmediate);
    clock.advance(3000);
    const error = (await pending) as ChannelError;
    expect(`${error.code} (${error.exitCode}): ${error.message}`).toBe(
      `guest-not-ready (7): the channel is attached as device 1 of domain 1 (db1), but not connected after 3 s: the frontend is initialising (1), the backend init-wait (2); no daemon answers at ${host.env.runDirectory}: the channel connects as soon as one runs`,
    );
    expect(await host.store.exists(libxlPath(1, 1))).toBe(true);
  });

  it('does not go on waiting when the channel goes, as with its domain', async () => {
    const pending = plug({}, { waitMs: 3000 }).catch((error: unknown) => error);
    while (clock.pending === 0) await new Promise(setImmediate);
    for (const path of ['/local/domain/1', '/libxl/1', '/local/domain/0/backend/console/1']) await host.store.rm(path);
    const error = (await pending) as ChannelError;
    expect(`${error.code} (${error.exitCode}): ${error.message}`).toBe(
      'channel-not-found (3): channel "org.example.a" of domain 1 (db1) went while it was waited for',
    );
  });

  it('does not take a hostile state for an answer', async () => {
    const pending = plug({}, { waitMs: 3000 }).catch((error: unknown) => error);
    while (clock.pending === 0) await new Promise(setImmediate);
    await host.store.write('/local/domain/1/device/console/1/state', '4\0\x1b[2J');
    clock.advance(3000);
    expect(((await pending) as ChannelError).message).toContain('the frontend is without a valid state');
  });
});

describe('attach refuses, and leaves the tree as it was:', () => {
  it('a domain that is not there', async () => {
    expect(await refusal(() => plug({}, { domain: 'nope' }))).toBe(
      'domain-not-found (3): no running domain has the id, name or uuid "nope"',
    );
  });

  it('a domain that is being destroyed', async () => {
    await host.store.release(1);
    expect(await refusal(() => plug())).toBe(
      'domain-not-found (3): domain 1 (db1) has nodes in xenstore, but is not running or is being destroyed',
    );
  });

  it('a domain whose id was taken by another one meanwhile', async () => {
    host.store.beforeCommit = async () => {
      host.store.beforeCommit = undefined;
      await host.store.write('/local/domain/1/vm', `/vm/${uuidFor(77)}`);
    };
    const error = (await plug().catch((reason: unknown) => reason)) as ChannelError;
    expect(`${error.code}: ${error.message}`).toBe('domain-not-found: domain 1 (db1) has gone meanwhile');
    expect(host.store.dump().filter((line) => line.includes('console'))).toEqual([]);
  });

  it('domain 0', async () => {
    for (const domain of ['0', 'Domain-0']) {
      expect(await refusal(() => plug({}, { domain }))).toBe(
        'usage-invalid (2): domain 0 cannot have a channel: it is the host end of all of them',
      );
    }
  });

  it('an ambiguous name', async () => {
    await addDomain(host.store, 7, 'db1');
    expect(await refusal(() => plug())).toBe('domain-ambiguous (4): 2 domains are called "db1": 1, 7; use the id');
  });

  it('a channel name that the domain has', async () => {
    await addToolstackChannel(host.store, 1, 1, 'org.example.a');
    expect(await refusal(() => plug())).toBe(
      'name-in-use (4): domain 1 (db1) already has a channel "org.example.a", with device id 1',
    );
  });

  it('a channel name of which only the copy of the toolstack is left', async () => {
    await host.store.write('/libxl/1/device/console/3/name', 'org.example.a');
    expect(await refusal(() => plug())).toMatch(/^name-in-use \(4\): .* with device id 3$/);
  });

  it('a device id that is in use', async () => {
    await addToolstackChannel(host.store, 1, 2, 'made.by.xl');
    expect(await refusal(() => plug({ deviceId: 2 }))).toBe(
      'device-id-in-use (4): domain 1 (db1) already has a console with device id 2',
    );
  });

  it('a path that a channel of another domain has, however it is written', async () => {
    await addToolstackChannel(host.store, 2, 1, 'made.by.xl', '/run/../run/ch.sock');
    expect(await refusal(() => plug({ path: '/run/./ch.sock' }))).toBe(
      'path-in-use (4): console 1 of domain 2 already has the socket path /run/./ch.sock',
    );
  });

  it('a regular file at the path', async () => {
    const path = `${host.env.runDirectory}/file`;
    await writeFile(path, 'precious');
    expect(await refusal(() => plug({ path }))).toBe(
      `path-not-a-socket (4): ${path} cannot be used for a channel: something else stands there, and is left alone`,
    );
  });

  it('a directory, a symbolic link, and a path below a file', async () => {
    const { runDirectory } = host.env;
    await mkdir(`${runDirectory}/dir`);
    await symlink('/nowhere', `${runDirectory}/link`);
    await writeFile(`${runDirectory}/file`, '');
    for (const path of [`${runDirectory}/dir`, `${runDirectory}/link`, `${runDirectory}/file/socket`]) {
      expect(await refusal(() => plug({ path }))).toMatch(/^path-not-a-socket/);
    }
  });

  it('a path in a directory that does not exist', async () => {
    const directory = `${host.env.runDirectory}-none`;
    expect(await refusal(() => plug({ path: `${directory}/socket` }))).toBe(
      `path-illegal (2): the directory ${directory} does not exist: make it first`,
    );
  });

  it('a name that makes the default path too long', async () => {
    expect(await refusal(() => plug({ name: 'n'.repeat(200) }))).toMatch(
      /^path-too-long \(2\): the socket path has \d+ bytes, but a Unix socket path can have at most 107: .*; give a shorter one with --path$/,
    );
  });

  it('after a hundred lost transactions', async () => {
    host.store.beforeCommit = () => host.store.write('/local/domain/1/name', 'db1');
    const error = await plug().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'XenstoreError', code: 'conflict' });
    expect(host.store.conflicts).toBe(100);
    expect(host.store.dump().filter((line) => line.includes('console'))).toEqual([]);
  });
});
