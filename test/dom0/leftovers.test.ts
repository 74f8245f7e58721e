import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseChannelSpec } from '../../src/console/spec.js';
import { attach } from '../../src/dom0/attach.js';
import { type DetachRequest, detach } from '../../src/dom0/detach.js';
import { addDomain, addToolstackChannel, startHost, type TestHost } from './host.js';

const BACKENDS = '/local/domain/0/backend/console';

let host: TestHost;
let before: string[];

beforeEach(async () => {
  host = await startHost();
  await addDomain(host.store, 2, 'web');
  before = host.store.dump();
  await addDomain(host.store, 1, 'db1');
});
afterEach(() => host.stop());

const unplug = (request: Partial<DetachRequest> = {}): ReturnType<typeof detach> =>
  detach(host.store, { domain: '1', name: 'a', ...request }, host.env);

async function plug(name = 'a'): Promise<void> {
  await attach(host.store, { domain: '1', spec: parseChannelSpec({ name }) }, host.env);
}

/** What a destroy leaves when the toolstack has no record of the channel. */
async function destroyDomain(domid = 1): Promise<void> {
  await host.store.transaction(async (tx) => {
    await tx.rm(`/local/domain/${domid}`);
    await tx.rm(`/libxl/${domid}`);
  });
}

describe('detach from a domain that is gone', () => {
  it('removes the backend that it has left, at once and with a word about it', async () => {
    await plug();
    await destroyDomain();
    expect(await host.store.exists(`${BACKENDS}/1/1`)).toBe(true);
    expect(await unplug()).toMatchObject({
      domid: 1,
      deviceId: 1,
      warnings: ['domain 1 is gone: what it had left of the channel was removed'],
    });
    expect(host.store.dump()).toEqual(before);
  });

  it("leaves the domain's other leftovers and the other domains alone", async () => {
    await plug('a');
    await plug('b');
    await attach(host.store, { domain: '2', spec: parseChannelSpec({ name: 'a' }) }, host.env);
    await destroyDomain();
    await unplug();
    expect(await host.store.exists(`${BACKENDS}/1/1`)).toBe(false);
    expect(await host.store.exists(`${BACKENDS}/1/2`)).toBe(true);
    expect(await host.store.exists(`${BACKENDS}/2/1`)).toBe(true);
    await unplug({ name: 'b' });
    expect(await host.store.exists(`${BACKENDS}/1`)).toBe(false);
  });

  it('refuses what does not look like ours, unless it is forced', async () => {
    await addToolstackChannel(host.store, 1, 1, 'a', '/run/xl.sock');
    await destroyDomain();
    const left = host.store.dump();
    await expect(unplug()).rejects.toMatchObject({ code: 'not-ours' });
    expect(host.store.dump()).toEqual(left);
    await unplug({ force: true });
    expect(host.store.dump()).toEqual(before);
  });

  it('says that there is no such domain, or no such channel, where nothing is left', async () => {
    await plug();
    await destroyDomain();
    await expect(unplug({ name: 'b' })).rejects.toMatchObject({ code: 'channel-not-found' });
    await expect(unplug({ domain: '7' })).rejects.toMatchObject({ code: 'domain-not-found' });
    await expect(unplug({ domain: 'db1' })).rejects.toMatchObject({ code: 'domain-not-found' });
  });

  it('never touches a domain that lives, whatever is missing of its channel', async () => {
    await plug();
    await host.store.rm('/libxl/1/device/console/1');
    await host.store.rm('/local/domain/1/name');
    await expect(unplug({ timeoutMs: 1 })).rejects.toMatchObject({ code: 'wait-timeout' });
    expect(await host.store.exists(`${BACKENDS}/1/1`)).toBe(true);
  });
});
