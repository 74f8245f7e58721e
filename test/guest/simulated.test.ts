/** The agent and the shell helper against the real daemon on a simulated host: which channel each link really reaches. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as dial, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/log.js';
import { parseChannelName } from '../../src/console/name.js';
import { DEFAULT_LIMIT_BYTES } from '../../src/console/spec.js';
import { attach } from '../../src/dom0/attach.js';
import { detach } from '../../src/dom0/detach.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { SimulatedHost } from '../../src/simulation/host.js';
import { XenstoreClient } from '../../xenstore/index.js';
import { ALL_BYTES, collect, linksIn, reader } from './programs.js';

const HELPER = fileURLToPath(new URL('../../udev/xenchannel-link', import.meta.url));

/** A host with one domain in which nothing of ours runs yet. */
class Rig {
  private constructor(readonly host: SimulatedHost) {}

  static async start(): Promise<Rig> {
    const scratch = mkdtempSync(join(tmpdir(), 'xenchannel-sim-'));
    const host = await SimulatedHost.start({ root: join(scratch, 'h'), domains: 1, agent: false });
    onTestFinished(async () => {
      await host.stop();
      rmSync(scratch, { recursive: true, force: true });
    });
    return new Rig(host);
  }

  get root(): string {
    return this.host.domain(1).root;
  }

  get #environment() {
    return { runDirectory: this.host.runDirectory, backendDomid: 0, clock: systemClock };
  }

  async attach(name: string): Promise<string> {
    const spec = {
      name: parseChannelName(name),
      connection: 'socket',
      backend: 'native',
      limitBytes: DEFAULT_LIMIT_BYTES,
    } as const;
    return (await attach(this.host.store, { domain: 'guest1', spec, waitMs: 10_000 }, this.#environment)).path;
  }

  detach(name: string): Promise<unknown> {
    return detach(this.host.store, { domain: 'guest1', name }, this.#environment);
  }

  async startAgent(): Promise<GuestAgent> {
    const store = await XenstoreClient.connect({ path: this.host.domain(1).storePath });
    const { root } = this;
    const agent = await GuestAgent.start({ store, root, clock: systemClock, log: silentLogger, random: randomBytes });
    onTestFinished(async () => {
      await agent.stop();
      await store.close();
    });
    return agent;
  }

  startHelper(): void {
    const child = spawn('sh', [HELPER, 'run'], {
      env: {
        PATH: process.env['PATH'],
        XENSTORED_PATH: this.host.domain(1).storePath,
        XENCHANNEL_ROOT: this.root,
      },
      stdio: 'ignore',
    });
    onTestFinished(async () => {
      child.kill();
      if (child.exitCode === null) await once(child, 'exit');
    });
  }

  /** Resolves when exactly these names have links; the claim comes after the link, so dom0 sees it. */
  async linked(...names: string[]): Promise<void> {
    await this.host.store.waitUntil(
      async () => {
        const there = Object.keys(linksIn(this.root)).sort();
        return JSON.stringify(there) === JSON.stringify([...names].sort()) && (await this.#claims()) === names.length;
      },
      { what: `links ${names.join(' ')}`, paths: ['/local/domain/1/device'], timeoutMs: 15_000 },
    );
  }

  async #claims(): Promise<number> {
    const at = '/local/domain/1/device/console';
    const ids = await this.host.store.tryDirectory(at);
    const claims = await Promise.all(
      ids.map((id) => this.host.store.tryReadText(`${at}/${id}/xenchannel-guest-open`).catch(() => undefined)),
    );
    return claims.filter((claim) => claim === '1').length;
  }
}

async function client(path: string): Promise<Socket> {
  const socket = dial(path);
  onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, 'connect');
  return socket;
}

/** What a host client says arrives in the guest at the link of that name, and nothing else does. */
async function reaches(rig: Rig, name: string, path: string): Promise<void> {
  const program = await reader(join(rig.root, 'dev/xenchannel', name));
  const said = Buffer.from(`this is for ${name}.`);
  const heard = collect(program, said.length);
  const socket = await client(path);
  socket.write(said);
  expect(String(await heard)).toBe(String(said));
  program.kill();
  await once(program, 'exit');
  socket.destroy();
}

describe('the agent, with the daemon in dom0,', () => {
  it('reaches the right channel by every name, also after unplugging in the middle', async () => {
    const rig = await Rig.start();
    const paths = new Map<string, string>();
    for (const name of ['alpha', 'bravo', 'charlie']) paths.set(name, await rig.attach(name));
    const agent = await rig.startAgent();
    expect(agent.channels().map(({ sure }) => sure)).toEqual(['proved', 'proved', 'proved']);
    await rig.detach('alpha');
    await rig.detach('bravo');
    paths.set('delta', await rig.attach('delta'));
    paths.set('echo-1', await rig.attach('echo-1'));
    await rig.linked('charlie', 'delta', 'echo-1');
    for (const name of ['charlie', 'delta', 'echo-1']) await reaches(rig, name, paths.get(name) ?? '');
    expect(rig.host.domain(1).kernel.warnings).toBe(0);
  });

  it('lets through what a client sent before the guest was ready, whole and without the handshake', async () => {
    const rig = await Rig.start();
    const socket = await client(await rig.attach('early'));
    socket.write(ALL_BYTES);
    await rig.startAgent();
    const program = await reader(join(rig.root, 'dev/xenchannel/early'));
    const bytes = collect(program, ALL_BYTES.length * 2);
    socket.write(ALL_BYTES);
    expect(await bytes).toEqual(Buffer.concat([ALL_BYTES, ALL_BYTES]));
  });

  it('comes back to a program that has the channel open, between two of its bytes', async () => {
    const rig = await Rig.start();
    const socket = await client(await rig.attach('held'));
    const first = await rig.startAgent();
    const program = await reader(join(rig.root, 'dev/xenchannel/held'));
    const bytes = collect(program, ALL_BYTES.length * 3);
    socket.write(ALL_BYTES);
    await first.stop();
    socket.write(ALL_BYTES);
    const second = await rig.startAgent();
    socket.write(ALL_BYTES);
    expect(second.channels()[0]).toMatchObject({ name: 'held', sure: 'proved', how: 'recorded' });
    expect(await bytes).toEqual(Buffer.concat([ALL_BYTES, ALL_BYTES, ALL_BYTES]));
  });

  it('proves a channel though the daemon starts only after the guest asked', async () => {
    const rig = await Rig.start();
    const path = await rig.attach('late');
    await rig.attach('other');
    await rig.host.crashDaemon();
    const starting = rig.startAgent();
    await rig.host.store.waitUntil((store) => store.exists('/local/domain/1/device/console/1/xenchannel-identify'), {
      what: 'the question',
      paths: ['/local/domain/1/device'],
      timeoutMs: 10_000,
    });
    await rig.host.startDaemon();
    const agent = await starting;
    await rig.linked('late', 'other');
    expect(agent.channels().map(({ sure }) => sure)).toEqual(['proved', 'proved']);
    await reaches(rig, 'late', path);
  });
});

describe('the shell helper, with the daemon in dom0,', () => {
  it('reaches the right channel by every name', async () => {
    const rig = await Rig.start();
    const paths = new Map<string, string>();
    for (const name of ['alpha', 'bravo']) paths.set(name, await rig.attach(name));
    rig.startHelper();
    await rig.linked('alpha', 'bravo');
    await rig.detach('alpha');
    paths.set('charlie', await rig.attach('charlie'));
    paths.set('delta', await rig.attach('delta'));
    await rig.linked('bravo', 'charlie', 'delta');
    for (const name of ['bravo', 'charlie', 'delta']) await reaches(rig, name, paths.get(name) ?? '');
  });
});
