import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addDomain, addToolstackChannel, fakeDaemon, fakeGuest, serveControl, uuidFor } from '../dom0/host.js';
import { until } from '../support/until.js';
import { type CliHost, type CliResult, cli, start, startCliHost } from './harness.js';

let host: CliHost;

beforeEach(async () => {
  host = await startCliHost();
  await addDomain(host.store, 1, 'db1');
  await addDomain(host.store, 2, 'web');
});
afterEach(() => host.stop());

const xc = (...argv: string[]): Promise<CliResult> => cli(host.env, ...argv);

/** The whole tree, permissions included, as the genuine client prints it. */
async function dump(): Promise<string> {
  const env = { ...process.env, XENSTORED_PATH: host.storePath };
  return (await promisify(execFile)('xenstore-ls', ['-fp'], { env })).stdout;
}

describe('xenchannel attach', () => {
  it('attaches, and says where the channel is', async () => {
    const path = `${host.runDirectory}/dom1/org.example.a`;
    expect(await xc('attach', 'db1', 'org.example.a')).toEqual({
      code: 0,
      out: `attached org.example.a to domain db1 as device 1: socket ${path}\n`,
      err: `warning: no daemon answers at ${host.runDirectory}: the channel connects as soon as one runs\n`,
    });
    expect(await dump()).toContain('/local/domain/1/device/console/1/name = "org.example.a"   (n0,r1)\n');
  });

  it('writes with --dry-run nothing but to its output, in the format of xenstore-ls', async () => {
    const before = await dump();
    const dry = await xc('attach', 'db1', 'a', '--dry-run');
    expect(await dump()).toBe(before);
    expect(dry.err).toBe('');
    expect((await xc('attach', 'db1', 'a')).code).toBe(0);
    const after = new Set((await dump()).split('\n'));
    expect(
      dry.out
        .trimEnd()
        .split('\n')
        .filter((line) => !after.has(line)),
    ).toEqual([]);
  });

  it('answers in JSON', async () => {
    const { code, out } = await xc(
      'attach',
      'db1',
      'a',
      '--mode',
      '0600',
      '--limit',
      '64K',
      '--device-id',
      '3',
      '--json',
    );
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      dryRun: false,
      domid: 1,
      deviceId: 3,
      domain: { name: 'db1', uuid: uuidFor(1) },
      path: `${host.runDirectory}/dom1/a`,
    });
    const backend = '/local/domain/0/backend/console/1/3';
    expect(await host.store.readText(`${backend}/xenchannel-mode`)).toBe('0600');
    expect(await host.store.readText(`${backend}/xenchannel-limit`)).toBe('65536');
  });

  it('waits with --wait until the guest is connected', async () => {
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1);
    const { code, out } = await xc('attach', 'db1', 'a', '--wait', '10');
    expect([code, out]).toEqual([
      0,
      `attached a to domain db1 as device 1, connected: socket ${host.runDirectory}/dom1/a\n`,
    ]);
  });

  it('exits with 7 when the guest does not come', async () => {
    expect(await xc('attach', 'db1', 'a', '--wait', '0.01')).toMatchObject({
      code: 7,
      err: expect.stringMatching(
        /^xenchannel: the channel is attached as device 1 of domain 1 \(db1\), but not connected after 0.01 s: .*; no daemon answers at .* \[guest-not-ready\]\n$/,
      ),
    });
  });

  it('exits with 130 when it is interrupted while it waits', async () => {
    const running = start(host.env, ['attach', 'db1', 'a', '--wait', '60']);
    while (!(await host.store.exists('/libxl/1/device/console/1'))) await new Promise(setImmediate);
    running.interrupt();
    expect(await running.done).toBe(130);
    expect(running.err.text).toContain('xenchannel: interrupted by SIGINT [interrupted]\n');
  });

  it('never gives an id twice, however many run at once', async () => {
    const results = await Promise.all(
      Array.from({ length: 7 }, (_, index) => xc('attach', 'db1', `c${index}`, '--json')),
    );
    expect(results.map(({ code }) => code)).toEqual([0, 0, 0, 0, 0, 0, 0]);
    expect(results.map(({ out }) => (JSON.parse(out) as { deviceId: number }).deviceId).sort()).toEqual([
      1, 2, 3, 4, 5, 6, 7,
    ]);
  });
});

describe('a refused command', () => {
  const REFUSED: [argv: string[], code: number, err: string][] = [
    [['attach', 'nope', 'a'], 3, 'no running domain has the id, name or uuid "nope" [domain-not-found]'],
    [['attach', '0', 'a'], 2, 'domain 0 cannot have a channel: it is the host end of all of them [usage-invalid]'],
    [['attach', 'db1', 'a/b'], 2, 'channel name "a/b" is not allowed: it contains \'/\' [name-illegal]'],
    [
      ['attach', 'db1', 'a', '--device-id', '10'],
      2,
      'device id 10 is outside 1-9: Linux guests read only the last digit of the id [device-id-out-of-range]',
    ],
    [
      ['attach', 'db1', 'a', '--device-id', 'x'],
      2,
      "option '--device-id <n>' argument 'x' is invalid. It must be a whole number. [usage-invalid]",
    ],
    [
      ['attach', 'db1', 'a', '--mode', '9'],
      2,
      "option '--mode <octal>' argument '9' is invalid. It must be an octal file mode such as 0660. [usage-invalid]",
    ],
    [
      ['attach', 'db1', 'a', '--wait', '-1'],
      2,
      "option '--wait <seconds>' argument '-1' is invalid. It must be a number of seconds from 0 to 86400. [usage-invalid]",
    ],
    [['attach', 'db1', 'a', '--path', 'x'], 2, "socket path 'x' cannot be used: it must be absolute [path-illegal]"],
    [
      ['attach', 'db1', 'a', '--connection', 'tcp'],
      2,
      'connection "tcp" is not known: use socket or pty [usage-invalid]',
    ],
    [
      ['attach', 'db1', 'made.by.xl'],
      4,
      'domain 1 (db1) already has a channel "made.by.xl", with device id 1 [name-in-use]',
    ],
    [
      ['attach', 'db1', 'a', '--device-id', '1'],
      4,
      'domain 1 (db1) already has a console with device id 1 [device-id-in-use]',
    ],
    [
      ['attach', 'web', 'a', '--path', '/run/xl.sock'],
      4,
      'console 1 of domain 1 already has the socket path /run/xl.sock [path-in-use]',
    ],
    [
      ['attach', 'web', 'a', '--path', '/etc/passwd'],
      4,
      '/etc/passwd cannot be used for a channel: something else stands there, and is left alone [path-not-a-socket]',
    ],
    [
      ['attach', 'web', 'a', '--owner', 'nosuchuser'],
      2,
      "there is no user 'nosuchuser' in /etc/passwd [account-unknown]",
    ],
    [
      ['attach', 'web', 'a', '--group', 'nosuchgroup'],
      2,
      "there is no group 'nosuchgroup' in /etc/group [account-unknown]",
    ],
    [['detach', 'db1', 'a'], 3, 'domain 1 (db1) has no channel "a" [channel-not-found]'],
    [
      ['detach', 'db1', 'made.by.xl'],
      4,
      'channel "made.by.xl" of domain 1 (db1) was made by the toolstack when the domain started: taking it off would break its server [not-ours]',
    ],
    [['status', 'db1', 'a'], 3, 'domain "db1" has no channel "a" [channel-not-found]'],
    [['connect', 'db1', 'a'], 3, 'domain 1 (db1) has no channel "a" [channel-not-found]'],
    [
      ['connect', 'db1', 'made.by.xl'],
      8,
      'channel "made.by.xl" of domain 1 (db1) cannot be opened (ENOENT): nobody serves /run/xl.sock: is the daemon running? [daemon-unreachable]',
    ],
    [['plan', 'a'], 2, "required option '--domid <id>' not specified [usage-invalid]"],
    [
      ['plan', 'a', '--domid', '5', '--format', 'xml'],
      2,
      "format 'xml' is not known: use text, json or shell [usage-invalid]",
    ],
    [['atach', 'db1', 'a'], 2, "unknown command 'atach' (Did you mean attach?) [usage-invalid]"],
    [['attach', 'db1', 'a', '--forse'], 2, "unknown option '--forse' [usage-invalid]"],
    [['attach', 'db1'], 2, "missing required argument 'name' [usage-invalid]"],
    [['list', 'a', 'b'], 2, "too many arguments for 'list'. Expected 1 argument but got 2. [usage-invalid]"],
  ];

  beforeEach(() => addToolstackChannel(host.store, 1, 1, 'made.by.xl', '/run/xl.sock'));

  it.each(REFUSED)('%j exits with %d, one sentence, and an unchanged tree', async (argv, code, sentence) => {
    const before = await dump();
    expect(await xc(...argv)).toEqual({ code, out: '', err: `xenchannel: ${sentence}\n` });
    expect(await dump()).toBe(before);
  });

  it.each(REFUSED.filter(([argv]) => ['attach', 'detach', 'status', 'list'].includes(argv[0] ?? '')))(
    '%j exits with %d and an error object with --json',
    async (argv, exitCode, sentence) => {
      const { code, out, err } = await xc(...argv, '--json');
      expect([code, out]).toEqual([exitCode, '']);
      const { error } = JSON.parse(err) as { error: { message: string; code: string; exitCode: number } };
      expect(error.exitCode).toBe(exitCode);
      if (!sentence.includes('too many arguments')) expect(`${error.message} [${error.code}]`).toBe(sentence);
    },
  );
});

describe('xenchannel without a xenstored', () => {
  it('exits with 8 and names what it tried', async () => {
    const { code, err } = await cli({ XENSTORED_PATH: '/nonexistent/socket' }, 'list');
    expect(code).toBe(8);
    expect(err).toMatch(/^xenchannel: .*\/nonexistent\/socket.* \[store-unreachable\]\n$/);
  });

  it('plans all the same', async () => {
    const { code, out } = await cli({}, 'plan', 'a', '--domid', '5');
    expect(code).toBe(0);
    expect(out).toContain('/local/domain/0/backend/console/5/1/path = "/run/xenchannel/dom5/a"   (n0,r5)\n');
    expect(JSON.parse((await cli({}, 'plan', 'a', '--domid', '5', '--json')).out)).toMatchObject({
      address: { domid: 5, deviceId: 1, backendDomid: 0 },
    });
    expect((await cli({}, 'plan', 'a', '--domid', '5', '--format', 'shell')).out).toMatch(/^#!\/bin\/sh -e\n# WARNING/);
  });
});

describe('xenchannel detach', () => {
  it('leaves the tree as it was before attach', async () => {
    await fakeDaemon(host.store);
    await fakeGuest(host.store, 1);
    const before = await dump();
    await xc('attach', 'db1', 'a', '--wait', '10');
    expect(await xc('detach', 'db1', 'a')).toEqual({ code: 0, out: 'detached a from domain db1\n', err: '' });
    expect(await dump()).toBe(before);
  });

  it('exits with 6 when nobody answers, and finishes with --force', async () => {
    const before = await dump();
    await xc('attach', 'db1', 'a');
    const late = await xc('detach', 'db1', 'a', '--timeout', '0.01');
    expect(late.code).toBe(6);
    expect(late.err).toMatch(
      /did not close within 0.01 s: the frontend is initialising \(1\), the backend closing \(5\); no daemon answers .* \[wait-timeout\]\n$/,
    );
    const forced = await xc('detach', 'db1', 'a', '--force', '--json');
    expect(JSON.parse(forced.out)).toMatchObject({
      domid: 1,
      deviceId: 1,
      name: 'a',
      warnings: [expect.stringContaining('no daemon answers')],
    });
    expect(await dump()).toBe(before);
  });

  it('can be interrupted, and repeated', async () => {
    await xc('attach', 'db1', 'a');
    const running = start(host.env, ['detach', 'db1', 'a']);
    while ((await host.store.readText('/local/domain/0/backend/console/1/1/state')) !== '5')
      await new Promise(setImmediate);
    running.interrupt();
    expect(await running.done).toBe(130);
    await fakeDaemon(host.store);
    expect((await xc('detach', 'db1', 'a')).code).toBe(0);
  });
});

describe('xenchannel list', () => {
  it('says so when there is nothing', async () => {
    expect(await xc('list')).toEqual({ code: 0, out: 'no channels\n', err: '' });
    expect(JSON.parse((await xc('list', '--json')).out)).toEqual({
      channels: [],
      leftOut: 0,
      wanted: [],
      recordProblems: [],
    });
  });

  it("shows a table with everyone's channels", async () => {
    await addToolstackChannel(host.store, 2, 1, 'made.by.xl', '/run/xl.sock');
    await xc('attach', 'db1', 'org.example.a');
    expect((await xc('list')).out).toBe(
      [
        'DOMID  DOMAIN  ID  CHANNEL        STATE                   SERVER     PATH',
        `1      db1     1   org.example.a  initialising/init-wait  native     ${host.runDirectory}/dom1/org.example.a`,
        '2      web     1   made.by.xl     initialising/init-wait  toolstack  /run/xl.sock',
        '',
      ].join('\n'),
    );
  });

  it('gives programs the path of the one they asked for', async () => {
    await xc('attach', 'db1', 'a');
    const { channels } = JSON.parse((await xc('list', 'db1', '--json')).out) as { channels: { path: string }[] };
    expect(channels.map(({ path }) => path)).toEqual([`${host.runDirectory}/dom1/a`]);
  });

  it('never prints what a terminal would act on', async () => {
    await addToolstackChannel(host.store, 1, 1, 'evil\x1b]0;owned\x07\x9b2J', '/run/\x1b[2J');
    await host.store.write('/local/domain/1/name', 'd\x1b[31mb');
    for (const argv of [['list'], ['status']]) {
      const { out } = await xc(...argv);
      expect(out).toContain('"evil\\u001b]0;owned\\u0007');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: those must not be there
      expect(out).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
    }
  });
});

describe('xenchannel status', () => {
  const FIGURES = {
    domid: 1,
    deviceId: 1,
    hostOpen: true,
    fromGuestBytes: 1536,
    toGuestBytes: 3,
    unconsumedBytes: 2,
    silent: true,
    spoolBytes: 512,
    spoolLimitBytes: 1048576,
    droppedBytes: 42 * 1024,
    gap: { at: '2026-01-01T00:00:00.000Z', reason: 'no-handover' },
    problems: [{ code: 'path-in-use', message: 'another server listens on /x' }],
    chardev: { viewers: 2, viewerDroppedBytes: 7, logError: 'ENOSPC', logQueueBytes: 1500, logDroppedBytes: 9 },
  };

  it('says for people what there is to say, each figure once', async () => {
    await xc('attach', 'db1', 'a');
    const control = await serveControl(
      { runDirectory: host.runDirectory, backendDomid: 0, clock: { now: Date.now, after: () => ({ cancel() {} }) } },
      { pid: 42, startedAt: '2026-01-02T00:00:00.000Z', channels: [FIGURES] },
    );
    const { out } = await xc('status', 'db1', 'a');
    const verbose = await xc('status', 'db1', 'a', '--verbose');
    control.close();
    expect(out).toBe(
      [
        `daemon: running at ${host.runDirectory}, pid 42, since 2026-01-02T00:00:00.000Z`,
        '',
        'a of domain 1 (db1), device 1',
        '  state      initialising/init-wait',
        `  host end   socket ${host.runDirectory}/dom1/a: a client is connected, 2 look on`,
        '  guest      not known to be open',
        '  traffic    1.5 KiB (1536) from the guest, 3 bytes to it',
        '  pending    2 bytes that the guest has not taken, held back until the guest speaks or claims to be open',
        '  spool      512 bytes of 1 MiB wait for a client',
        "  dropped    42 KiB (43008) of the guest's output, 7 bytes for slow viewers, 9 bytes for the log",
        '  log        cannot be written (ENOSPC): 1.5 KiB (1500) wait, it is tried again',
        '  gap        bytes may be missing or repeated around 2026-01-01T00:00:00.000Z (no-handover)',
        '  problem    another server listens on /x [path-in-use]',
        '',
      ].join('\n'),
    );
    expect(verbose.out).toMatch(/^ {4}fromGuestBytes: +1536$/m);
    expect(verbose.out).toMatch(/^ {4}chardev\.viewers: +2$/m);
  });

  it.each([
    [
      { hostOpen: false, chardev: { failedConnects: 3, lastError: 'ENOENT' } },
      'nobody answers (ENOENT), it is tried again',
    ],
    [{ hostOpen: true, chardev: { failedConnects: 3, lastError: '' } }, 'connected'],
  ])('says of a channel that connects whether its server is there: %j', async (figures, words) => {
    await xc('attach', 'db1', 'a', '--connect', '/run/broker.sock');
    const control = await serveControl(
      { runDirectory: host.runDirectory, backendDomid: 0, clock: { now: Date.now, after: () => ({ cancel() {} }) } },
      { pid: 42, startedAt: '2026-01-02T00:00:00.000Z', channels: [{ ...FIGURES, ...figures }] },
    );
    const { out } = await xc('status', 'db1', 'a');
    control.close();
    expect(out).toContain(`  host end   connects to /run/broker.sock: ${words}\n`);
  });

  it('says when no daemon runs', async () => {
    await xc('attach', 'db1', 'a');
    const { code, out } = await xc('status');
    expect(code).toBe(0);
    expect(out).toContain(`daemon: not running (no answer at ${host.runDirectory})\n`);
    expect(out).toContain('none: the daemon does not serve it');
    expect(JSON.parse((await xc('status', '--json')).out)).toMatchObject({
      daemon: { running: false },
      channels: [{ figures: null }],
    });
  });
});

describe('help', () => {
  it.each(['attach', 'detach', 'list', 'status', 'connect', 'plan', 'guest'])('of %s has examples', async (command) => {
    const { code, out, err } = await xc(command, '--help');
    expect([code, err]).toEqual([0, '']);
    expect(out).toMatch(/Examples.*:\n {2}(XENSTORED_PATH|xenchannel)/);
  });

  it('names the environment and the exit codes', async () => {
    const { code, out } = await xc('--help');
    expect(code).toBe(0);
    expect(out).toContain('XENCHANNEL_RUNDIR');
    expect(out).toContain('130 interrupted');
  });

  it('comes without a command, too, as an error', async () => {
    const { code, out, err } = await xc();
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain('Usage: xenchannel');
  });

  it('has a version', async () => {
    expect(await xc('--version')).toEqual({ code: 0, out: '0.1.0\n', err: '' });
  });
});

describe('xenchannel guest', () => {
  it('lists the channels of the domain it runs in', async () => {
    expect(await xc('guest', 'list')).toMatchObject({ code: 0, out: 'no channels\n' });
  });

  it('keeps its agent until it is told to stop', async () => {
    const running = start(host.env, ['guest', 'agent', '--root', host.runDirectory, '--log-level', 'info']);
    await until('the agent runs', () => running.err.text.includes('agent started'));
    running.interrupt();
    expect(await running.done).toBe(0);
    expect(running.err.text).toContain('agent stopped');
  });
});
