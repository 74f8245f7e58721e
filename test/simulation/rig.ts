/** A guest kernel with the least around it: a xenstore over a map, a hypervisor, and a backend that only moves bytes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../../src/base/log.js';
import { backendPath, frontendPath, libxlPath } from '../../src/console/layout.js';
import { BackendRing } from '../../src/console/ring.js';
import type { BoundPort, GrantedPage } from '../../src/hypervisor/ports.js';
import { SimulatedHypervisor } from '../../src/hypervisor/simulated.js';
import { libxlChannelNodes } from '../../src/simulation/libxl-console.js';
import { LinuxGuest, type LinuxGuestOptions } from '../../src/simulation/linux-guest.js';
import { type MemoryTty, memoryTtys } from '../../src/simulation/memory-tty.js';
import { writeNodes } from '../../src/simulation/nodes.js';
import { prepareHost } from '../../src/simulation/toolstack.js';
import type { Uevent } from '../../src/simulation/xenbus-sysfs.js';
import { permissions, type Store, type StoreOperations, XenstoreError } from '../../xenstore/index.js';
import { MemoryStore } from '../dom0/memory-store.js';
import { FakeClock } from '../support/fake-clock.js';

export const DOMID = 1;

/** The store as domain `domid` sees it: relative paths, and EACCES for what it may not write. */
export function domainStore(store: Store, domid: number): Store {
  const absolute = (path: string) => (path.startsWith('/') ? path : `/local/domain/${domid}/${path}`);
  const limit = (operations: StoreOperations): StoreOperations => {
    const mayWrite = async (path: string): Promise<void> => {
      let at = absolute(path);
      while (!(await operations.exists(at))) at = at.slice(0, at.lastIndexOf('/')) || '/';
      const [owner, ...others] = await operations.getPermissions(at);
      const access = owner.domid === domid ? 'b' : (others.find((entry) => entry.domid === domid) ?? owner).access;
      if (access !== 'b' && access !== 'w') throw new XenstoreError('EACCES', `${path} may not be written`, { path });
    };
    return {
      read: (path) => operations.read(absolute(path)),
      readText: (path) => operations.readText(absolute(path)),
      tryReadText: (path) => operations.tryReadText(absolute(path)),
      directory: (path) => operations.directory(absolute(path)),
      tryDirectory: (path) => operations.tryDirectory(absolute(path)),
      exists: (path) => operations.exists(absolute(path)),
      getPermissions: (path) => operations.getPermissions(absolute(path)),
      write: async (path, value) => {
        await mayWrite(path);
        await operations.write(absolute(path), value);
      },
      mkdir: (path) => operations.mkdir(absolute(path)),
      rm: async (path) => {
        await mayWrite(path);
        await operations.rm(absolute(path));
      },
      setPermissions: (path, wanted) => operations.setPermissions(absolute(path), wanted),
    };
  };
  return Object.assign(Object.create(store) as Store, limit(store), {
    watch: (path: string, listener: (path: string) => void) => store.watch(absolute(path), listener),
    transaction: <T>(fn: (tx: StoreOperations) => Promise<T>) => store.transaction((tx) => fn(limit(tx))),
  });
}

/** A backend of one channel that takes everything at once and keeps it. */
export class TestBackend {
  readonly hypervisor: ReturnType<SimulatedHypervisor['openBackend']>;
  readonly page: GrantedPage;
  readonly ring: BackendRing;
  readonly port: BoundPort;
  received = Buffer.alloc(0);
  /** False: leaves the ring as it is. */
  draining = true;
  #toSend = Buffer.alloc(0);

  constructor(hypervisor: SimulatedHypervisor, reference: number, port: number) {
    this.hypervisor = hypervisor.openBackend();
    this.page = this.hypervisor.grants.map(DOMID, reference);
    this.ring = new BackendRing(this.page);
    this.port = this.hypervisor.events.bind(DOMID, port, () => {
      this.turn();
      this.port.unmask();
    });
  }

  send(bytes: string | Uint8Array): void {
    this.#toSend = Buffer.concat([this.#toSend, Buffer.from(bytes as Uint8Array)]);
    this.turn();
  }

  get unsentBytes(): number {
    return this.#toSend.length;
  }

  turn(): void {
    for (;;) {
      const written = this.ring.writeIn(this.#toSend);
      this.#toSend = this.#toSend.subarray(written);
      const target = Buffer.alloc(2048);
      const count = this.draining ? this.ring.peekOut(target, 0) : 0;
      this.received = Buffer.concat([this.received, target.subarray(0, count)]);
      this.ring.publishConsumed(count);
      if (written + count === 0) return;
      this.port.notify();
    }
  }
}

export class Rig {
  readonly root = mkdtempSync(join(tmpdir(), 'xenchannel-guest-'));
  readonly clock = new FakeClock();
  readonly store = new MemoryStore();
  readonly hypervisor = new SimulatedHypervisor();
  readonly memory = memoryTtys();
  readonly uevents: string[] = [];
  guest!: LinuxGuest;

  static async start(options: Partial<LinuxGuestOptions> = {}, before: (rig: Rig) => Promise<void> = async () => {}) {
    const rig = new Rig();
    await prepareHost(rig.store);
    const dom = `/local/domain/${DOMID}`;
    await rig.store.write(`${dom}/device`, '');
    for (const path of [dom, `${dom}/device`]) await rig.store.setPermissions(path, permissions('n0', `r${DOMID}`));
    rig.hypervisor.createDomain(DOMID);
    await before(rig);
    rig.guest = await LinuxGuest.boot({
      domid: DOMID,
      store: domainStore(rig.store, DOMID),
      hypervisor: rig.hypervisor,
      root: rig.root,
      ttys: rig.memory,
      clock: rig.clock,
      log: silentLogger,
      onUevent: ({ action, devpath }: Uevent) => rig.uevents.push(`${action} ${devpath}`),
      ...options,
    });
    return rig;
  }

  async stop(): Promise<void> {
    await this.guest.powerOff();
    rmSync(this.root, { recursive: true, force: true });
  }

  plug(deviceId: number, name = `channel${deviceId}`): Promise<void> {
    return this.store.transaction((tx) =>
      writeNodes(tx, libxlChannelNodes(DOMID, deviceId, { name, connection: 'socket', path: '/run/x' })),
    );
  }

  unplug(deviceId: number): Promise<void> {
    return this.store.transaction(async (tx) => {
      await tx.rm(frontendPath(DOMID, deviceId));
      await tx.rm(this.backend(deviceId));
      await tx.rm(libxlPath(DOMID, deviceId));
    });
  }

  backend(deviceId: number): string {
    return backendPath({ domid: DOMID, deviceId, backendDomid: 0 });
  }

  setBackendState(deviceId: number, state: number): Promise<void> {
    return this.store.write(`${this.backend(deviceId)}/state`, String(state));
  }

  frontendState(deviceId: number): Promise<string | undefined> {
    return this.store.tryReadText(`${frontendPath(DOMID, deviceId)}/state`);
  }

  async frontendReaches(deviceId: number, state: number | undefined): Promise<void> {
    const wanted = state === undefined ? undefined : String(state);
    await until(async () => (await this.frontendState(deviceId)) === wanted);
  }

  device(deviceId: number) {
    const found = this.guest.devices.find((device) => device.nodename === `device/console/${deviceId}`);
    if (found === undefined) throw new Error(`there is no console ${deviceId}`);
    return found;
  }

  /** Plugs a channel, serves it and waits until both sides are connected. */
  async connect(deviceId: number): Promise<{ backend: TestBackend; tty: MemoryTty }> {
    await this.plug(deviceId);
    await this.frontendReaches(deviceId, 3);
    const { reference, port } = this.device(deviceId);
    const backend = new TestBackend(this.hypervisor, reference ?? -1, port ?? -1);
    await this.setBackendState(deviceId, 4);
    await this.frontendReaches(deviceId, 4);
    return { backend, tty: this.memory.lines.at(-1) as MemoryTty };
  }
}

/** Looks again after every turn of the event loop; the test's time limit is the bound. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise<void>((resolve) => setImmediate(resolve));
}
