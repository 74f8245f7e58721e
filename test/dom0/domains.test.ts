import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listDomains, nearNames, parseDomid, resolveDomain } from '../../src/dom0/domains.js';
import { addDomain, startHost, type TestHost, uuidFor } from './host.js';

let host: TestHost;

beforeEach(async () => {
  host = await startHost();
  await addDomain(host.store, 3, 'db1');
  await addDomain(host.store, 12, 'web');
  await addDomain(host.store, 20, '12');
});
afterEach(() => host.stop());

const domidOf = async (text: string): Promise<number> => (await resolveDomain(host.store, text)).domid;

describe('a domain', () => {
  it.each([
    ['3', 3],
    ['db1', 3],
    [uuidFor(3), 3],
    [uuidFor(12).toUpperCase(), 12],
  ])('is found as %s', async (text, domid) => {
    expect(await domidOf(text)).toBe(domid);
  });

  it('whose name is a number of another domain loses to the id', async () => {
    expect(await domidOf('12')).toBe(12);
  });

  it('whose name is a number that no domain has is found by it', async () => {
    await addDomain(host.store, 21, '99');
    expect(await domidOf('99')).toBe(21);
  });

  it('without a name is found by id and uuid', async () => {
    await host.store.rm('/local/domain/3/name');
    expect(await resolveDomain(host.store, uuidFor(3))).toEqual({ domid: 3, name: undefined, uuid: uuidFor(3) });
  });

  it('that is unknown is answered with the names that come near', async () => {
    await expect(resolveDomain(host.store, 'bd1')).rejects.toMatchObject({
      code: 'domain-not-found',
      message: 'no running domain has the id, name or uuid "bd1"; did you mean "db1"?',
    });
  });

  it('with a hostile name cannot reach the terminal through a suggestion', async () => {
    await addDomain(host.store, 30, 'evil\x1b[2J');
    await expect(resolveDomain(host.store, 'evil')).rejects.toMatchObject({
      message: 'no running domain has the id, name or uuid "evil"; did you mean "evil\\u001b[2J"?',
    });
  });

  it.each(['', '-1', '03', '1.0', '32752', '99999', 'x'.repeat(4000), '../0', '3\n'])(
    'is not found as %j',
    async (text) => {
      await expect(resolveDomain(host.store, text)).rejects.toMatchObject({ code: 'domain-not-found' });
    },
  );

  it('is listed by id; junk and reserved ids below /local/domain are passed over', async () => {
    for (const junk of ['x', '007', '32752', '70000', '-3']) await host.store.mkdir(`/local/domain/${junk}`);
    expect((await listDomains(host.store)).map(({ domid }) => domid)).toEqual([3, 12, 20]);
  });

  it('with a malformed vm node has no uuid', async () => {
    await host.store.write('/local/domain/3/vm', '/vm/not-a-uuid');
    expect((await listDomains(host.store))[0]).toEqual({ domid: 3, name: 'db1', uuid: undefined });
  });
});

describe('a domid', () => {
  it.each([
    ['0', 0],
    ['32751', 32751],
    ['32752', undefined],
    ['00', undefined],
    ['1e3', undefined],
  ])('%s is %s', (text, domid) => {
    expect(parseDomid(text)).toBe(domid);
  });
});

describe('near names', () => {
  it('are at most three, the nearest first', () => {
    expect(nearNames('guest1', ['guest2', 'guest12', 'guest1x', 'guest3', 'other'])).toEqual([
      'guest12',
      'guest1x',
      'guest2',
    ]);
    expect(nearNames('zzz', ['guest'])).toEqual([]);
  });
});
