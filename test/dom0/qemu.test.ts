/** Channels that the QEMU of a domain serves, against a QMP monitor that behaves as QEMU's does. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { ChannelError } from '../../src/base/errors.js';
import { KEY } from '../../src/console/layout.js';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import { type AttachResult, attach } from '../../src/dom0/attach.js';
import { type DetachRequest, detach } from '../../src/dom0/detach.js';
import type { Dom0Environment } from '../../src/dom0/environment.js';
import { list } from '../../src/dom0/list.js';
import { isListening } from '../../src/dom0/listening.js';
import { QmpClient } from '../../src/dom0/qmp.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { addDomain, addToolstackChannel, startHost, type TestHost } from './host.js';

const GREETING = { QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 } }, capabilities: ['oob'] } };

interface FakeQemu {
  readonly commands: { execute: string; arguments?: Record<string, unknown> }[];
  readonly chardevs: Set<string>;
  stop(): void;
}

/** Answers as QEMU's monitor, in pieces of `piece` bytes and with an event before every answer. */
async function fakeQemu(path: string, piece = 1000): Promise<FakeQemu> {
  const commands: FakeQemu['commands'] = [];
  const chardevs = new Set<string>();
  const answer = (command: FakeQemu['commands'][number]): unknown => {
    const id = String(command.arguments?.['id']);
    if (command.execute === 'chardev-add' && chardevs.has(id)) {
      return { error: { class: 'GenericError', desc: `Chardev with id '${id}' already exists` } };
    }
    if (command.execute === 'chardev-remove' && !chardevs.delete(id)) {
      return { error: { class: 'GenericError', desc: `Chardev '${id}' not found` } };
    }
    if (command.execute === 'chardev-add') chardevs.add(id);
    return { return: {} };
  };
  const server = createServer((socket) => {
    const say = (message: unknown): void => {
      const text = `${JSON.stringify(message)}\r\n`;
      for (let at = 0; at < text.length; at += piece) socket.write(text.slice(at, at + piece));
    };
    say(GREETING);
    socket.on('data', (chunk) => {
      const command = JSON.parse(chunk.toString()) as FakeQemu['commands'][number];
      commands.push(command);
      say({ event: 'RTC_CHANGE', timestamp: {} });
      say(answer(command));
    });
    socket.on('error', () => {});
  });
  server.listen(path);
  await once(server, 'listening');
  return { commands, chardevs, stop: () => void server.close() };
}

let host: TestHost;
let env: Dom0Environment;
let qemu: FakeQemu;
let empty: string[];

beforeEach(async () => {
  host = await startHost(systemClock);
  env = { ...host.env, xenRunDirectory: host.env.runDirectory };
  qemu = await fakeQemu(`${env.runDirectory}/qmp-libxl-1`);
  await addDomain(host.store, 1, 'db1');
  empty = host.store.dump();
});
afterEach(async () => {
  qemu.stop();
  await host.stop();
});

const plug = (input: Partial<ChannelSpecInput> = {}): Promise<AttachResult> =>
  attach(host.store, { domain: '1', spec: parseChannelSpec({ name: 'a', backend: 'qemu', ...input }) }, env);
const unplug = (request: Partial<DetachRequest> = {}): ReturnType<typeof detach> =>
  detach(host.store, { domain: '1', name: 'a', timeoutMs: 50, ...request }, env);

async function failureOf(pending: Promise<unknown>): Promise<string> {
  const error = await pending.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ChannelError);
  const { code, exitCode, message } = error as ChannelError;
  return `${code} (${exitCode}): ${message}`;
}

describe('attach to QEMU', () => {
  it('adds the chardev, and then the nodes that make QEMU look for it', async () => {
    const { path, output, warnings } = await plug();
    expect([output, warnings]).toEqual(['chardev:libxl-channel1', []]);
    expect(qemu.commands).toEqual([
      { execute: 'qmp_capabilities' },
      {
        execute: 'chardev-add',
        arguments: {
          id: 'libxl-channel1',
          backend: { type: 'socket', data: { addr: { type: 'unix', data: { path } }, server: true, wait: false } },
        },
      },
    ]);
    expect(await host.store.readText('/local/domain/1/device/console/1/type')).toBe('ioemu');
    expect(await host.store.readText('/local/domain/0/backend/console/1/1/state')).toBe('1');
    expect(await host.store.readText(`/local/domain/0/backend/console/1/1/${KEY.backend}`)).toBe('qemu');
    expect((await list(host.store, env)).channels).toMatchObject([{ name: 'a', server: 'qemu' }]);
  });

  it('asks QEMU for nothing for a pty, which QEMU opens by itself', async () => {
    expect((await plug({ connection: 'pty' })).output).toBe('pty');
    expect(qemu.commands).toEqual([]);
  });

  it('takes the chardev back when the nodes cannot be written', async () => {
    let commits = 0;
    host.store.beforeCommit = async () => {
      if (++commits === 2) await addToolstackChannel(host.store, 1, 1, 'quicker');
    };
    expect(await failureOf(plug())).toMatch(/^device-id-in-use/);
    expect(qemu.commands.map(({ execute }) => execute)).toContain('chardev-remove');
    expect([...qemu.chardevs]).toEqual([]);
  });

  it('is refused where the domain has no QEMU, with the tree unchanged', async () => {
    qemu.stop();
    expect(await failureOf(plug())).toBe(
      `qemu-unreachable (8): QEMU cannot be asked at ${env.runDirectory}/qmp-libxl-1: ENOENT; does domain 1 have a QEMU? PV and PVH domains often have none: use --backend native`,
    );
    expect(host.store.dump()).toEqual(empty);
  });

  it("is refused in QEMU's words", async () => {
    qemu.chardevs.add('libxl-channel1');
    expect(await failureOf(plug())).toBe(
      `qemu-refused (4): QEMU refused chardev-add: "Chardev with id 'libxl-channel1' already exists"`,
    );
    expect(host.store.dump()).toEqual(empty);
  });

  it('is refused where a program listens at the path: QEMU would take it away', async () => {
    const path = `${env.runDirectory}/taken.sock`;
    const server = createServer().listen(path);
    await once(server, 'listening');
    expect(await isListening(path)).toBe(true);
    expect(await failureOf(plug({ path }))).toBe(`path-in-use (4): a program listens at ${path} already`);
    expect(qemu.commands).toEqual([]);
    server.close();
  });

  it.each([{ mode: 0o600 }, { owner: 'qemu' }, { group: 'kvm' }, { overflow: 'drop-newest' }, { speakFirst: true }])(
    'is refused with %j, which QEMU knows nothing of',
    (input) => {
      expect(() => parseChannelSpec({ name: 'a', backend: 'qemu', ...input })).toThrow(/^QEMU's channels know no /);
    },
  );
});

describe('detach from QEMU', () => {
  it('removes the nodes when both ends have closed, and then the chardev', async () => {
    await plug();
    await host.store.write('/local/domain/0/backend/console/1/1/state', '6');
    expect((await unplug()).warnings).toEqual([]);
    expect([...qemu.chardevs]).toEqual([]);
    expect(host.store.dump()).toEqual(empty);
  });

  it('is done when QEMU has removed the directories itself', async () => {
    await plug();
    await host.store.rm('/local/domain/0/backend/console/1/1');
    await host.store.rm('/local/domain/1/device/console/1');
    await unplug();
    expect(host.store.dump()).toEqual(empty);
    expect([...qemu.chardevs]).toEqual([]);
  });

  it('says when the chardev stays', async () => {
    await plug();
    await host.store.write('/local/domain/0/backend/console/1/1/state', '6');
    qemu.chardevs.clear();
    expect((await unplug()).warnings).toEqual([
      `the chardev stays in QEMU: QEMU refused chardev-remove: "Chardev 'libxl-channel1' not found"`,
    ]);
    expect(host.store.dump()).toEqual(empty);
  });

  it('never takes the frontend from a QEMU that holds the ring, forced or not', { timeout: 10_000 }, async () => {
    await plug();
    await host.store.write('/local/domain/0/backend/console/1/1/state', '4');
    await host.store.write('/local/domain/1/device/console/1/state', '4');
    expect(await failureOf(unplug({ force: true }))).toMatch(
      /^wait-timeout \(6\): .* within 2 s: the frontend is connected \(4\)/,
    );
    for (const directory of ['/local/domain/1/device/console/1', '/local/domain/0/backend/console/1/1']) {
      expect(await host.store.exists(directory)).toBe(true);
    }
    expect([...qemu.chardevs]).toEqual(['libxl-channel1']);
  });
});

describe('a QMP client', () => {
  async function serve(answer: (socket: import('node:net').Socket) => void): Promise<{ path: string; server: Server }> {
    const path = `${temporaryDirectory()}/qmp`;
    const server = createServer((socket) => {
      socket.on('error', () => {});
      answer(socket);
    }).listen(path);
    await once(server, 'listening');
    return { path, server };
  }

  it('takes messages in any pieces, and events between them', async () => {
    for (const piece of [1, 2, 7, 64]) {
      const directory = temporaryDirectory();
      const monitor = await fakeQemu(`${directory}/qmp`, piece);
      const qmp = await QmpClient.connect(`${directory}/qmp`, systemClock);
      expect(await qmp.execute('query-version')).toEqual({});
      qmp.close();
      monitor.stop();
    }
  });

  it.each([
    ['closes at once', (socket: import('node:net').Socket) => void socket.end(), 'it closed the connection'],
    [
      'is no monitor',
      (socket: import('node:net').Socket) => void socket.write('{"hello":1}\n'),
      'it is no QMP monitor',
    ],
    [
      'speaks no JSON',
      (socket: import('node:net').Socket) => void socket.write('SSH-2.0\n'),
      'it sent what is no JSON',
    ],
    [
      'never ends a message',
      (socket: import('node:net').Socket) => void socket.write('x'.repeat(1024 * 1024 + 1)),
      'it sent a message of more than 1048576 bytes',
    ],
  ])('gives up on a server that %s', async (_what, answer, why) => {
    const { path, server } = await serve(answer);
    expect(await failureOf(QmpClient.connect(path, systemClock))).toBe(
      `qemu-unreachable (8): QEMU cannot be asked at ${path}: ${why}`,
    );
    server.close();
  });

  it('gives up on a monitor that is in use and does not answer', async () => {
    const clock = new FakeClock();
    const { path, server } = await serve(() => {});
    const pending = failureOf(QmpClient.connect(path, clock));
    while (clock.pending === 0) await new Promise(setImmediate);
    clock.advance(5000);
    expect(await pending).toMatch(/no answer within 5 s; another program may be using this monitor$/);
    server.close();
  });
});
