/** A host for tests of dom0 commands: the nodes a toolstack makes for a domain, and fakes of the daemon and the guest. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import { NATIVE_TYPE } from '../../src/console/layout.js';
import type { Dom0Environment } from '../../src/dom0/environment.js';
import { isXenstoreError, permissions, type Store, type Watch } from '../../xenstore/index.js';
import { MemoryStore } from './memory-store.js';

export interface TestHost {
  readonly store: MemoryStore;
  readonly env: Dom0Environment;
  stop(): Promise<void>;
}

export async function startHost(clock: Clock = systemClock): Promise<TestHost> {
  const runDirectory = await mkdtemp(join(tmpdir(), 'xc-dom0-'));
  const store = new MemoryStore(clock);
  await store.write('/local/domain/0/name', 'Domain-0');
  return {
    store,
    env: { runDirectory, backendDomid: 0, clock },
    async stop() {
      await store.close();
      await rm(runDirectory, { recursive: true, force: true });
    },
  };
}

export const uuidFor = (domid: number): string => `00000000-0000-4000-8000-${String(domid).padStart(12, '0')}`;

/** What libxl leaves of interest: the domain's directory, `device`, its uuid, its private directory. */
export async function addDomain(
  store: Store,
  domid: number,
  name = `guest${domid}`,
  uuid = uuidFor(domid),
): Promise<void> {
  const own = `/local/domain/${domid}`;
  await store.mkdir(own);
  await store.setPermissions(own, permissions('n0', `r${domid}`));
  await store.write(`${own}/name`, name);
  await store.write(`${own}/vm`, `/vm/${uuid}`);
  await store.mkdir(`${own}/device`);
  await store.write(`/libxl/${domid}/type`, 'pv');
  await store.mkdir(`/libxl/${domid}/device`);
  await store.introduce(domid, 1n, 1);
}

/** A named channel as libxl makes it when the domain starts. */
export async function addToolstackChannel(
  store: Store,
  domid: number,
  deviceId: number,
  name: string,
  path?: string,
): Promise<void> {
  const frontend = `/local/domain/${domid}/device/console/${deviceId}`;
  const backend = `/local/domain/0/backend/console/${domid}/${deviceId}`;
  const both = { name, connection: path === undefined ? 'pty' : 'socket', ...(path === undefined ? {} : { path }) };
  await store.transaction(async (tx) => {
    for (const [key, value] of Object.entries({ ...both, frontend, online: '1', state: '2' }))
      await tx.write(`${backend}/${key}`, value);
    for (const [key, value] of Object.entries({ ...both, frontend, backend, state: '1' }))
      await tx.write(`/libxl/${domid}/device/console/${deviceId}/${key}`, value);
    for (const [key, value] of Object.entries({ state: '1', type: 'ioemu', name })) {
      await tx.write(`${frontend}/${key}`, value);
      await tx.setPermissions(`${frontend}/${key}`, permissions('n0', `r${domid}`));
    }
    await tx.setPermissions(frontend, permissions(`n${domid}`, 'r0'));
  });
}

/** Plays the daemon's part of the handshake; unmaps (BE 6) when the frontend is closed or gone. */
export async function fakeDaemon(store: Store): Promise<Watch[]> {
  const backends = '/local/domain/0/backend/console';
  const look = async (): Promise<void> => {
    for (const domid of await store.tryDirectory(backends)) {
      for (const id of await store.tryDirectory(`${backends}/${domid}`)) {
        const frontend = `/local/domain/${domid}/device/console/${id}`;
        const backend = `${backends}/${domid}/${id}`;
        await store.transaction(async (tx) => {
          const [front, back, online, type] = await Promise.all(
            [`${frontend}/state`, `${backend}/state`, `${backend}/online`, `${frontend}/type`].map((p) =>
              tx.tryReadText(p),
            ),
          );
          if (back === undefined || (type !== undefined && type !== NATIVE_TYPE)) return;
          if (online === '1' && back === '2' && front === '3') await tx.write(`${backend}/state`, '4');
          if (back === '5' && (front === undefined || front === '6' || front === '1'))
            await tx.write(`${backend}/state`, '6');
          if (back === '4' && front === undefined) await tx.write(`${backend}/state`, '6');
        });
      }
    }
  };
  const run = serialised(look);
  return [await store.watch(backends, run), await store.watch('/local/domain', run)];
}

/** Plays hvc_xen: probes what appears, follows the backend's state. */
export async function fakeGuest(store: Store, domid: number): Promise<Watch[]> {
  const consoles = `/local/domain/${domid}/device/console`;
  const look = async (): Promise<void> => {
    for (const id of await store.tryDirectory(consoles)) {
      const state = `${consoles}/${id}/state`;
      await store.transaction(async (tx) => {
        const [front, back] = await Promise.all(
          [state, `/local/domain/0/backend/console/${domid}/${id}/state`].map((path) => tx.tryReadText(path)),
        );
        if (front === '1' && (back === '1' || back === '2')) {
          await tx.write(`${consoles}/${id}/ring-ref`, '8');
          await tx.write(`${consoles}/${id}/port`, '9');
          await tx.write(state, '3');
        }
        if (front === '3' && back === '4') await tx.write(state, '4');
        if ((front === '3' || front === '4') && (back === '5' || back === '6')) await tx.write(state, '6');
      });
    }
  };
  const run = serialised(look);
  return [await store.watch('/local/domain', run)];
}

/** One run at a time, and one more after it if it was called meanwhile. */
function serialised(fn: () => Promise<void>): () => void {
  let running = false;
  let again = false;
  const run = (): void => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    again = false;
    void fn()
      // The test is over and its store closed.
      .catch((error: unknown) => isXenstoreError(error, 'closed') || Promise.reject(error))
      .finally(() => {
        running = false;
        if (again) run();
      });
  };
  return run;
}

/** Something that answers on the control socket with `status`. */
export async function serveControl(env: Dom0Environment, status: unknown): Promise<Server> {
  const server = createServer((_request, response) => response.end(JSON.stringify(status)));
  await new Promise<void>((listening) => server.listen(`${env.runDirectory}/control.sock`, listening));
  return server;
}
