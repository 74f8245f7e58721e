/** Channels that are recorded: attach --persist, detach --forget, apply, and what list says of those that are missing. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addDomain, addToolstackChannel, fakeDaemon, fakeGuest, uuidFor } from '../dom0/host.js';
import { type CliHost, type CliResult, cli, start, startCliHost } from './harness.js';

let host: CliHost;

beforeEach(async () => {
  host = await startCliHost();
  await addDomain(host.store, 1, 'db1');
  await addDomain(host.store, 2, 'web');
});
afterEach(() => host.stop());

const xc = (...argv: string[]): Promise<CliResult> => cli(host.env, ...argv);
const stateDirectory = (): string => join(host.runDirectory, 'state');
const names = async (domain: string): Promise<string[]> => {
  const listing = JSON.parse((await xc('list', domain, '--json')).out) as { channels: { name: string }[] };
  return listing.channels.map(({ name }) => name);
};

function file(data: unknown): string {
  const path = join(host.runDirectory, 'channels.json');
  writeFileSync(path, typeof data === 'string' ? data : JSON.stringify(data));
  return path;
}

describe('attach --persist', () => {
  it('says that the channel comes back, and records it; without it nothing is recorded', async () => {
    expect((await xc('attach', 'db1', 'a')).code).toBe(0);
    expect(existsSync(stateDirectory())).toBe(false);
    const { code, out } = await xc('attach', 'db1', 'b', '--persist');
    expect([code, out]).toEqual([
      0,
      `attached b to domain db1 as device 2: socket ${host.runDirectory}/dom1/b; it will come back\n`,
    ]);
    expect(readdirSync(stateDirectory())).toEqual([`uuid-${uuidFor(1)}.json`]);
  });

  it('records nothing with --dry-run, and nothing that could not be attached', async () => {
    expect((await xc('attach', 'db1', 'a', '--persist', '--dry-run')).code).toBe(0);
    expect((await xc('attach', 'db1', 'a', '--persist', '--path', '/etc/passwd')).code).toBe(4);
    expect(existsSync(stateDirectory())).toBe(false);
  });

  it('attaches nothing where the record is damaged', async () => {
    await xc('attach', 'db1', 'a', '--persist');
    writeFileSync(join(stateDirectory(), `uuid-${uuidFor(1)}.json`), 'nonsense');
    const { code, err } = await xc('attach', 'db1', 'b', '--persist');
    expect(code).toBe(8);
    expect(err).toMatch(/cannot be used: it is no JSON; it is left as it is \[state-corrupt\]\n$/);
    expect(await names('db1')).toEqual(['a']);
    expect((await xc('list')).err).toMatch(/^warning: .*cannot be used: it is no JSON/);
  });

  it('has recorded the channel when the guest does not answer in time', async () => {
    expect((await xc('attach', 'db1', 'a', '--persist', '--wait', '0.01')).code).toBe(7);
    expect(readdirSync(stateDirectory())).toHaveLength(1);
  });
});

describe('detach', () => {
  it('forgets the channel with the detach, and says so', async () => {
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1);
    await xc('attach', 'db1', 'a', '--persist', '--wait', '10');
    expect(await xc('detach', 'db1', 'a')).toEqual({
      code: 0,
      out: 'detached a from domain db1; it will not come back\n',
      err: '',
    });
    expect(readdirSync(stateDirectory())).toEqual([]);
  });

  it('that runs out of time has forgotten it already', async () => {
    await xc('attach', 'db1', 'a', '--persist');
    expect((await xc('detach', 'db1', 'a', '--timeout', '0.01')).code).toBe(6);
    expect(readdirSync(stateDirectory())).toEqual([]);
  });

  it.each(['db1', uuidFor(1), uuidFor(1).toUpperCase()])(
    '--forget %s finds the record of a domain that does not run',
    async (who) => {
      await xc('attach', 'db1', 'a', '--persist');
      const { XENSTORED_PATH: _, ...withoutStore } = host.env;
      const result = await cli({ ...withoutStore, XENSTORED_PATH: '/nonexistent' }, 'detach', who, 'a', '--forget');
      expect(result).toEqual({ code: 0, out: `forgot a of domain ${who}: it will not come back\n`, err: '' });
      expect(readdirSync(stateDirectory())).toEqual([]);
      expect(await names('db1')).toEqual(['a']);
    },
  );

  it('--forget says that there is no such record', async () => {
    const { code, err } = await xc('detach', 'db1', 'a', '--forget');
    expect([code, err]).toEqual([
      3,
      'xenchannel: no channel "a" is recorded for a domain with the uuid or name "db1" [channel-not-found]\n',
    ]);
  });
});

describe('list', () => {
  it('names recorded channels that are missing, with the reason', async () => {
    await xc('apply', file({ domains: { db1: [{ name: 'a' }], [uuidFor(9)]: [{ name: 'b' }] } }));
    await host.store.rm('/local/domain/1/device/console/1');
    await host.store.rm('/local/domain/0/backend/console/1/1');
    await host.store.rm('/libxl/1/device/console/1');
    const { out, code } = await xc('list');
    expect([code, out]).toEqual([
      0,
      `no channels
1 db1 a: wanted, not attached: no daemon has attached it since the domain came
- ${uuidFor(9)} b: wanted, not attached: the domain does not run
`,
    ]);
    expect((await xc('list', 'db1')).out).not.toContain(uuidFor(9));
  });
});

describe('apply', () => {
  const both = { domains: { db1: [{ name: 'a' }, { name: 'b', deviceId: 4 }], later: [{ name: 'c' }] } };

  it('shows what it would do with --dry-run, and does nothing', async () => {
    expect(await xc('apply', file(both), '--dry-run')).toEqual({
      code: 0,
      out: '+ attach db1 a, device 1\n+ attach db1 b, device 4\n* record later c\n',
      err: '',
    });
    expect(await names('db1')).toEqual([]);
    expect(existsSync(stateDirectory())).toBe(false);
  });

  it('does it, and has nothing left to do the next time', async () => {
    const first = await xc('apply', file(both));
    expect(first).toEqual({
      code: 0,
      out: '+ attach db1 a, device 1\n+ attach db1 b, device 4\n* record later c\n3 channels, all as they shall be\n',
      err: '',
    });
    expect(await names('db1')).toEqual(['a', 'b']);
    expect((await xc('apply', file(both))).out).toBe('3 channels, all as they shall be\n');
    expect((await xc('apply', file(both), '--dry-run')).out).toBe(
      '= keep db1 a, device 1\n= keep db1 b, device 4\n= keep later c\n',
    );
  });

  it('attaches to a domain what was recorded for its name, and records it for its uuid from then on', async () => {
    await xc('apply', file(both));
    await addDomain(host.store, 3, 'later');
    expect((await xc('apply', file(both))).out).toBe('+ attach later c, device 1\n3 channels, all as they shall be\n');
    expect(readdirSync(stateDirectory()).sort()).toEqual([`uuid-${uuidFor(1)}.json`, `uuid-${uuidFor(3)}.json`]);
  });

  it('goes on after what cannot be done, names it, and exits with 9', async () => {
    await addToolstackChannel(host.store, 1, 1, 'a', '/run/xl.sock');
    const path = '/etc/passwd';
    const data = { domains: { db1: [{ name: 'a' }, { name: 'b', path }, { name: 'c' }] } };
    const { code, out, err } = await xc('apply', file(data));
    expect(code).toBe(9);
    expect(out).toBe(
      `! refused db1 a: the toolstack made a channel of this name, device 1
! attach db1 b, device 2: /etc/passwd cannot be used for a channel: something else stands there, and is left alone
+ attach db1 c, device 3
`,
    );
    expect(err).toBe('xenchannel: 2 of 3 steps failed [apply-incomplete]\n');
    const { steps, failed } = JSON.parse((await xc('apply', file(data), '--json')).out) as Record<string, unknown[]>;
    expect(failed).toBe(2);
    expect(steps?.[0]).toMatchObject({ action: 'refuse', error: { code: 'apply-incomplete' } });
  });

  it('leaves alone what is not in the file, unless it shall prune; and then what nobody recorded', async () => {
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1);
    await xc('attach', 'db1', 'adhoc');
    await xc('attach', 'db1', 'old', '--persist', '--wait', '10');
    await xc('apply', file({ domains: { gone: [{ name: 'x' }] } }));
    const data = file({ domains: { db1: [{ name: 'new' }] } });
    await xc('apply', data);
    expect(await names('db1')).toEqual(['adhoc', 'old', 'new']);
    expect((await xc('apply', data, '--prune')).out).toBe(
      '- forget gone x\n- detach db1 old\n3 channels, all as they shall be\n',
    );
    expect(await names('db1')).toEqual(['adhoc', 'new']);
    expect(readdirSync(stateDirectory())).toEqual([`uuid-${uuidFor(1)}.json`]);
  });

  it('reads stdin', async () => {
    const stdin = new PassThrough();
    const running = start(host.env, ['apply', '-'], stdin);
    stdin.end(JSON.stringify({ domains: { web: [{ name: 'a' }] } }));
    expect(await running.done).toBe(0);
    expect(await names('web')).toEqual(['a']);
  });

  const WRONG: ReadonlyArray<[data: unknown, why: string]> = [
    ['{', 'it is no JSON: '],
    [[], 'it is no object'],
    [{}, "it has no 'domains'"],
    [{ domains: [] }, '/domains: it is no object'],
    [{ domain: {} }, '/domain: there is no such key; known are domains'],
    [{ domains: { '5': [] } }, '/domains/5: a domain is given by its name or uuid, not by its id'],
    [{ domains: { db1: {} } }, '/domains/db1: it is no list'],
    [{ domains: { 'a/b~c': [{}] } }, '/domains/a~1b~0c/0/name: it is missing, not a name'],
    [{ domains: { db1: [{ name: 'a', pth: '/x' }] } }, '/domains/db1/0/pth: there is no such key; known are name,'],
    [{ domains: { db1: [{ name: 'a', last: {} }] } }, '/domains/db1/0/last: there is no such key'],
    [{ domains: { db1: [{ name: 'a' }, { name: 'a' }] } }, '/domains/db1/1/name: "a" is used twice'],
    [
      { domains: { db1: [{ name: 'a', path: '/x' }], web: [{ name: 'a', path: '/x' }] } },
      '/domains/web/0/path: /domains/db1/0 has the same path',
    ],
  ];

  it.each(WRONG)('refuses %j with the place of the mistake, before anything is done', async (data, why) => {
    const path = file(data);
    const { code, err } = await xc('apply', path);
    expect(code).toBe(2);
    expect(err.startsWith(`xenchannel: ${path}: ${why}`)).toBe(true);
    expect(await names('db1')).toEqual([]);
  });
});
