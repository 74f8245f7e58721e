/**
 * The frontend half of a simulated Linux's Xen bus: finds console devices in xenstore and tells each what changed, one
 * event after the other as the kernel's xenwatch thread does. Knows nothing of rings. Source:
 * linux:drivers/xen/xenbus/xenbus_probe.c (xenbus_dev_changed, xenbus_probe_node).
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Watch } from '../../xenstore/index.js';
import { ConsoleDevice, type DeviceStatus, type KernelParts } from './console-device.js';

const CONSOLES = 'device/console';

export class FrontendBus {
  #kernel: KernelParts;
  readonly #devices = new Map<string, ConsoleDevice>();
  /** What is still to be looked at: device names, '' for the whole directory, `!name` for a backend's state. */
  readonly #dirty = new Set<string>();
  #working: Promise<void> | undefined;
  #watch: Watch | undefined;
  #stopped = false;

  constructor(kernel: KernelParts) {
    this.#kernel = kernel;
  }

  /** Resolves when the devices that are there have been probed. */
  async start(): Promise<void> {
    this.#watch = await this.#kernel.store.watch(CONSOLES, (path) => this.#changed(path));
    this.#touch('');
    while (this.#working !== undefined) await this.#working;
  }

  /** Suspended: nothing is looked at until `resume`. */
  async suspend(): Promise<void> {
    this.#stopped = true;
    this.#dirty.clear();
    await this.#working;
  }

  /**
   * On the connection of the restored domain. Watches are set again and the devices that it had go on; nobody looks for
   * others (linux:drivers/xen/xenbus/xenbus_xs.c, xs_resume; the event of the new watch names no device).
   */
  async resume(kernel: KernelParts): Promise<void> {
    this.#kernel = kernel;
    this.#stopped = false;
    let first = true;
    this.#watch = await kernel.store.watch(CONSOLES, (path) => {
      if (!first) this.#changed(path);
      first = false;
    });
    for (const [name, device] of this.#devices) await device.resume(kernel, () => this.#touch(`!${name}`));
  }

  /** In the order in which they were probed. */
  get devices(): readonly DeviceStatus[] {
    return [...this.#devices.values()].map((device) => device.status);
  }

  /** Power off: nothing is written, nothing is given back. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#dirty.clear();
    await this.#working;
    await this.#watch?.stop().catch(() => {});
  }

  #changed(path: string): void {
    const inside = path.slice(path.indexOf(CONSOLES) + CONSOLES.length + 1);
    this.#touch(path.includes(CONSOLES) ? (inside.split('/')[0] ?? '') : '');
  }

  #touch(what: string): void {
    if (this.#stopped) return;
    this.#dirty.add(what);
    this.#startWork();
  }

  #startWork(): void {
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (this.#dirty.size > 0) this.#startWork();
    });
  }

  async #work(): Promise<void> {
    // A set may grow while it is walked: what is touched meanwhile has its turn at the end.
    for (const what of this.#dirty) {
      this.#dirty.delete(what);
      try {
        if (what === '') await this.#lookAtAll();
        else if (what.startsWith('!')) await this.#devices.get(what.slice(1))?.backendChanged();
        else await this.#look(what);
      } catch (error) {
        // Without its xenstore connection a kernel can do nothing but go on with what it has.
        if (isXenstoreError(error, 'closed', 'disconnected')) this.#dirty.clear();
        else this.#kernel.log.log('warn', 'xenbus event failed', { device: what, error: String(error) });
      }
    }
  }

  async #lookAtAll(): Promise<void> {
    const names = await this.#kernel.store.tryDirectory(CONSOLES);
    for (const name of names) await this.#look(name);
    for (const name of [...this.#devices.keys()]) if (!names.includes(name)) await this.#look(name);
  }

  async #look(name: string): Promise<void> {
    const { store } = this.#kernel;
    const device = this.#devices.get(name);
    const exists = await store.exists(`${CONSOLES}/${name}`);
    if (!exists) {
      if (device === undefined) return;
      this.#devices.delete(name);
      await device.remove();
    } else if (device === undefined && !name.startsWith('0')) {
      // A frontend that is past Initialising belongs to somebody else, and one without a state is not ready.
      if ((await store.tryReadText(`${CONSOLES}/${name}/state`)) !== '1') return;
      const added = new ConsoleDevice(this.#kernel, name);
      this.#devices.set(name, added);
      await added.probe(() => this.#touch(`!${name}`));
    }
  }
}
