/** Two attaches that race for one path: whatever comes between, one of them loses; and no others disturb each other. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseChannelSpec } from '../../src/console/spec.js';
import { attach } from '../../src/dom0/attach.js';
import { addDomain, startHost, type TestHost } from './host.js';

let host: TestHost;

beforeEach(async () => {
  host = await startHost();
  for (const domid of [1, 2, 3]) {
    await addDomain(host.store, domid);
    // As every domain has it: its primary console.
    await host.store.write(`/local/domain/0/backend/console/${domid}/0/state`, '4');
  }
});
afterEach(() => host.stop());

const plug = (domid: number, name: string, path?: string) =>
  attach(
    host.store,
    { domain: String(domid), spec: parseChannelSpec({ name, ...(path === undefined ? {} : { path }) }) },
    host.env,
  );

/** The rival does all of its work before the first commit. */
function beforeCommit(rival: () => Promise<unknown>): void {
  host.store.beforeCommit = async () => {
    host.store.beforeCommit = undefined;
    await rival();
  };
}

const ownPlace = () => `${host.env.runDirectory}/dom1/a`;
const chosen = () => `${host.env.runDirectory}/chosen.sock`;

describe('of two attaches to one path the one that commits last is refused', () => {
  it.each([
    ['a chosen path against a channel in its own place', () => plug(1, 'a'), () => plug(2, 'b', ownPlace())],
    ['a channel in its own place against a chosen path', () => plug(2, 'b', ownPlace()), () => plug(1, 'a')],
    ['two chosen paths', () => plug(2, 'b', chosen()), () => plug(1, 'a', chosen())],
    ['the same name in the same domain', () => plug(1, 'a'), () => plug(1, 'a')],
  ])('%s', async (_title, late, rival) => {
    beforeCommit(rival);
    await expect(late()).rejects.toMatchObject({ code: expect.stringMatching(/^(path|name)-in-use$/) });
    expect(host.store.conflicts).toBe(1);
  });

  it('also when the chosen one is not the first', async () => {
    await plug(3, 'c', chosen());
    beforeCommit(() => plug(2, 'b', ownPlace()));
    await expect(plug(1, 'a')).rejects.toMatchObject({ code: 'path-in-use' });
  });
});

it('attaches to different domains do not make each other begin again', async () => {
  beforeCommit(() => plug(2, 'a'));
  await plug(1, 'a');
  expect(host.store.conflicts).toBe(0);
});

it('a path is free again when the domain that had it is gone, whatever it has left', async () => {
  await plug(2, 'a', chosen());
  await host.store.rm('/local/domain/2');
  await expect(plug(1, 'a', chosen())).resolves.toMatchObject({ path: chosen() });
});
