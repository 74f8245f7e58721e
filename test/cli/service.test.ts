/** The daemon as a service: started by a connection, told to its manager, restarted under a client that waits. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { askDaemon } from '../../src/dom0/control-client.js';
import { SharedHypervisor } from '../../src/hypervisor/shared-simulated.js';
import { SimulatedHost } from '../../src/simulation/host.js';
import { memoryTtys } from '../../src/simulation/memory-tty.js';
import { inheritedSockets, notifyManager } from '../../src/sys/service-manager.js';
import { builtSources } from '../support/built-sources.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';

const built = builtSources();

async function prepareHost(): Promise<SimulatedHost> {
  const root = temporaryDirectory('xc-');
  const shared = join(root, 'hypervisor');
  mkdirSync(shared);
  const hypervisor = new SharedHypervisor(shared);
  const host = await SimulatedHost.start({ root, agent: false, daemon: false, ttys: memoryTtys(), hypervisor });
  onTestFinished(() => host.stop());
  mkdirSync(host.runDirectory, { recursive: true });
  return host;
}

const daemonOf = (host: SimulatedHost): string[] => {
  const main = join(built(), 'src/cli/main.js');
  return [process.execPath, main, 'daemon', '--hypervisor', join(host.root, 'hypervisor'), '--log-level', 'error'];
};

function start(argv: readonly string[], environment: NodeJS.ProcessEnv = {}): ChildProcess {
  const [program = '', ...rest] = argv;
  const child = spawn(program, rest, { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'ignore'] });
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

const environmentOf = ({ storePath, runDirectory, stateDirectory }: SimulatedHost): NodeJS.ProcessEnv => ({
  XENSTORED_PATH: storePath,
  XENCHANNEL_RUNDIR: runDirectory,
  XENCHANNEL_STATEDIR: stateDirectory,
});

describe('the daemon under a service manager', { timeout: 40_000 }, () => {
  it('takes the control socket that it is given, answers who came before it ran, and leaves the path', async () => {
    const host = await prepareHost();
    const control = join(host.runDirectory, 'control.sock');
    const passed = Object.entries(environmentOf(host)).flatMap(([name, value]) => ['-E', `${name}=${value}`]);
    const child = start(['systemd-socket-activate', ...passed, '-l', control, ...daemonOf(host)]);
    await until('the socket is there', () => existsSync(control));
    const { ino } = statSync(control);
    // Nobody has started the daemon: this connection does, and waits for it.
    let answer: Awaited<ReturnType<typeof askDaemon>>;
    while (answer === undefined) answer = await askDaemon({ runDirectory: host.runDirectory }, '/v1/status');
    expect(answer).toMatchObject({ code: 200, body: { pid: child.pid } });
    expect(statSync(control).ino).toBe(ino);
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
    expect(statSync(control).ino).toBe(ino);
  });

  it('says when it is ready and when it stops', async () => {
    const host = await prepareHost();
    const path = join(host.root, 'notify');
    const manager = start(['socat', '-u', `UNIX-RECV:${path}`, '-']);
    let said = '';
    manager.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await until('the manager listens', () => existsSync(path));
    const child = start(daemonOf(host), { ...environmentOf(host), NOTIFY_SOCKET: path });
    await until('it is ready', () => said === 'READY=1', 20_000);
    expect(existsSync(join(host.runDirectory, 'control.sock'))).toBe(true);
    child.kill('SIGTERM');
    await once(child, 'exit');
    await until('the manager knows', () => said === 'READY=1STOPPING=1');
  });
});

describe('what a service inherits', () => {
  it.each<[string, NodeJS.ProcessEnv, number[]]>([
    ['nothing', {}, []],
    ['one socket', { LISTEN_PID: '7', LISTEN_FDS: '1' }, [3]],
    ['two', { LISTEN_PID: '7', LISTEN_FDS: '2' }, [3, 4]],
    ['nothing that is meant for its parent', { LISTEN_PID: '6', LISTEN_FDS: '1' }, []],
    ['nothing where that is no number', { LISTEN_PID: '7', LISTEN_FDS: '-1' }, []],
    ['no more than a few', { LISTEN_PID: '7', LISTEN_FDS: '9999' }, Array.from({ length: 16 }, (_, at) => at + 3)],
  ])('is %s', (_what, env, descriptors) => {
    expect(inheritedSockets(env, 7)).toEqual(descriptors);
  });

  it.each([undefined, '', 'relative', '/nowhere/at/all', `/${'x'.repeat(200)}`, '@nobody-listens-here'])(
    'is no manager at %j, and that is no failure',
    (NOTIFY_SOCKET) => {
      expect(notifyManager(NOTIFY_SOCKET === undefined ? {} : { NOTIFY_SOCKET }, 'READY=1')).toBe(false);
    },
  );
});
