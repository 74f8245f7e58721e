import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseChannelSpec } from '../../src/console/spec.js';
import { attach } from '../../src/dom0/attach.js';
import { mapBounded } from '../../src/dom0/environment.js';
import { list } from '../../src/dom0/list.js';
import { status } from '../../src/dom0/status.js';
import { permissions } from '../../xenstore/index.js';
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

const FRONTEND = '/local/domain/1/device/console/1';
const BACKEND = '/local/domain/0/backend/console/1/1';

let host: TestHost;

beforeEach(async () => {
  host = await startHost();
  await addDomain(host.store, 1, 'db1');
  await addDomain(host.store, 2, 'web');
});
afterEach(() => host.stop());

const plug = (name: string, domain = '1', waitMs?: number): Promise<unknown> =>
  attach(
    host.store,
    { domain, spec: parseChannelSpec({ name }), ...(waitMs === undefined ? {} : { waitMs }) },
    host.env,
  );

describe('list', () => {
  it('shows a channel with both its states and where to find it', async () => {
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1);
    await plug('a', '1', 5000);
    await host.store.write(`${FRONTEND}/xenchannel-guest-open`, '1');
    await host.store.write(`${FRONTEND}/xenchannel-host-open`, '1');
    await host.store.setPermissions(`${FRONTEND}/xenchannel-host-open`, permissions('n0', 'r1'));
    expect(await list(host.store, host.env)).toEqual({
      leftOut: 0,
      wanted: [],
      recordProblems: [],
      channels: [
        {
          domid: 1,
          domain: 'db1',
          uuid: uuidFor(1),
          deviceId: 1,
          backendDomid: 0,
          name: 'a',
          nameProblem: null,
          connection: 'socket',
          path: `${host.env.runDirectory}/dom1/a`,
          limitBytes: 1048576,
          server: 'native',
          online: true,
          connected: true,
          frontendState: 'connected',
          backendState: 'connected',
          hostOpen: true,
          guestClaimsOpen: true,
          missing: [],
        },
      ],
    });
  });

  it('shows all domains in order, or the one asked for', async () => {
    for (const [name, domain] of [
      ['x', '2'],
      ['a', '1'],
      ['b', '1'],
    ] as const)
      await plug(name, domain);
    const names = async (domain?: string): Promise<string[]> =>
      (await list(host.store, host.env, domain)).channels.map(({ domid, name }) => `${domid}/${name}`);
    expect(await names()).toEqual(['1/a', '1/b', '2/x']);
    expect(await names('web')).toEqual(['2/x']);
    await expect(list(host.store, host.env, 'nope')).rejects.toMatchObject({ code: 'domain-not-found' });
  });

  it('shows channels of libxl, and that somebody else serves them', async () => {
    await addToolstackChannel(host.store, 1, 1, 'made.by.xl', '/run/ch0.sock');
    expect((await list(host.store, host.env)).channels).toMatchObject([
      { name: 'made.by.xl', path: '/run/ch0.sock', server: 'toolstack', backendState: 'init-wait' },
    ]);
  });

  it('believes nothing of the frontend but its state', async () => {
    await plug('a');
    for (const [key, value] of [
      ['name', 'evil'],
      ['backend', '/local/domain/9'],
      ['limit', '9'],
      ['output', 'file:/etc/passwd'],
      ['xenchannel-host-open', '1'],
    ]) {
      await host.store.write(`${FRONTEND}/${key}`, value ?? '');
      await host.store.setPermissions(`${FRONTEND}/${key}`, permissions('n1'));
    }
    // A guest that owns `device` may invent consoles; they have no name that dom0 wrote.
    await host.store.write('/local/domain/1/device/console/5/name', 'invented');
    const { channels } = await list(host.store, host.env);
    expect(channels).toHaveLength(1);
    expect(channels[0]).toMatchObject({
      name: 'a',
      limitBytes: 1048576,
      path: `${host.env.runDirectory}/dom1/a`,
      hostOpen: false,
    });
  });

  it.each(['', '9', '-1', '4\n', 'x'.repeat(4000), '\xff\xfe', '04'])(
    'shows no state where the guest wrote %j',
    async (state) => {
      await plug('a');
      await host.store.write(`${FRONTEND}/state`, state);
      expect((await list(host.store, host.env)).channels[0]).toMatchObject({ frontendState: null, connected: false });
    },
  );

  it('says what is missing of a channel that is half gone', async () => {
    await plug('a');
    await host.store.rm(FRONTEND);
    expect((await list(host.store, host.env)).channels[0]).toMatchObject({ missing: ['frontend'], server: 'native' });
    await host.store.rm(BACKEND);
    expect((await list(host.store, host.env)).channels[0]).toMatchObject({
      name: 'a',
      missing: ['frontend', 'backend'],
    });
  });

  it('tells why it would not use the name of a channel that a toolstack made', async () => {
    await addToolstackChannel(host.store, 1, 1, '../../etc/passwd');
    expect((await list(host.store, host.env)).channels[0]).toMatchObject({ nameProblem: "it contains '/'" });
  });

  it('passes over junk beside the channels', async () => {
    await plug('a');
    for (const junk of ['x', '-1', '01', '0', '99999999999']) {
      await host.store.write(`/local/domain/1/device/console/${junk}/name`, 'junk');
      await host.store.write(`/local/domain/0/backend/console/1/${junk}/name`, 'junk');
    }
    await host.store.mkdir('/local/domain/0/backend/console/1/3');
    expect((await list(host.store, host.env)).channels.map(({ name }) => name)).toEqual(['a']);
  });

  it('finds the backend of a driver domain through the copy of the toolstack, and not through a forged one', async () => {
    await host.store.write('/libxl/1/device/console/3/backend', '/local/domain/7/backend/console/1/3');
    await host.store.write('/local/domain/7/backend/console/1/3/name', 'driven');
    await host.store.write('/libxl/1/device/console/4/backend', '/local/domain/7/backend/console/2/4');
    await host.store.write('/libxl/1/device/console/4/name', 'foreign');
    expect((await list(host.store, host.env)).channels).toMatchObject([
      { name: 'driven', backendDomid: 7 },
      { name: 'foreign', backendDomid: 0 },
    ]);
  });

  it('bounds what it reads of one domain, and says how much it left out', { timeout: 60_000 }, async () => {
    await host.store.transaction(async (tx) => {
      for (let id = 1; id <= 1100; id++) await tx.write(`/libxl/1/device/console/${id}/name`, `c${id}`);
    });
    const listing = await list(host.store, host.env);
    expect(listing.channels).toHaveLength(1024);
    expect(listing.leftOut).toBe(76);
  });

  it('goes on when nodes vanish between two reads', async () => {
    for (const name of ['a', 'b', 'c']) await plug(name);
    const real = host.store.tryReadText;
    let reads = 0;
    host.store.tryReadText = async (path) => {
      if (++reads === 12) {
        for (const gone of [FRONTEND, BACKEND, '/libxl/1/device/console/1']) await host.store.rm(gone);
      }
      return real(path);
    };
    const { channels } = await list(host.store, host.env);
    expect(channels.map(({ name }) => name).filter((name) => name !== 'a')).toEqual(['b', 'c']);
  });
});

describe('status', () => {
  it('says that no daemon runs, and shows what xenstore knows', async () => {
    await plug('a');
    const { daemon, channels } = await status(host.store, {}, host.env);
    expect(daemon).toEqual({ running: false, figures: null });
    expect(channels).toMatchObject([{ name: 'a', figures: null }]);
  });

  it('puts the figures of the daemon beside the channel they belong to', async () => {
    const figures = { domid: 2, deviceId: 1, bytesFromGuest: 42 };
    const control = await serveControl(host.env, {
      version: 1,
      channels: [{ domid: 1, deviceId: 9 }, figures, null, 7],
    });
    await plug('a');
    await plug('b', '2');
    const found = await status(host.store, {}, host.env);
    expect(found.daemon).toEqual({ running: true, figures: { version: 1 } });
    expect(found.channels.map((channel) => channel.figures)).toEqual([null, figures]);
    control.close();
  });

  it('shows why the daemon does not serve a channel, whether it has a session for it or not', async () => {
    const refused = { domid: 2, deviceId: 1, code: 'backend-malformed', message: 'its mode is no mode' };
    const served = {
      domid: 1,
      deviceId: 1,
      problems: [{ code: 'path-in-use', message: 'taken' }, 'junk', { code: 7 }],
    };
    const control = await serveControl(host.env, { channels: [served], refused: [refused, null] });
    await plug('a');
    await plug('b', '2');
    const { channels } = await status(host.store, {}, host.env);
    expect(channels.map(({ problems }) => problems)).toEqual([
      [{ code: 'path-in-use', message: 'taken' }],
      [{ code: 'backend-malformed', message: 'its mode is no mode' }],
    ]);
    control.close();
  });

  it.each([[[]], ['text'], [null], [{ channels: 'x' }]])('takes %j from the daemon for no figures', async (answer) => {
    const control = await serveControl(host.env, answer);
    await plug('a');
    expect((await status(host.store, {}, host.env)).channels[0]?.figures).toBeNull();
    control.close();
  });

  it('of one channel is refused when there is no such channel', async () => {
    await plug('a');
    expect((await status(host.store, { domain: 'db1', name: 'a' }, host.env)).channels).toHaveLength(1);
    await expect(status(host.store, { domain: 'db1', name: 'b' }, host.env)).rejects.toMatchObject({
      code: 'channel-not-found',
      message: 'domain "db1" has no channel "b"',
    });
  });
});

describe('bounded fan-out', () => {
  it('runs at most 32 at a time and keeps the order', async () => {
    let running = 0;
    let most = 0;
    const results = await mapBounded([...Array(200).keys()], async (item) => {
      most = Math.max(most, ++running);
      await new Promise(setImmediate);
      running--;
      return item * 2;
    });
    expect(most).toBe(32);
    expect(results).toEqual([...Array(200).keys()].map((item) => item * 2));
  });
});
