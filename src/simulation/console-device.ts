/**
 * One secondary PV console of a simulated Linux: Linux's hvc_xen frontend, step by step, mistakes included. Talks to
 * xenstore with the rights of its domain; knows no other device. Source: linux:drivers/tty/hvc/hvc_xen.c
 * (xencons_probe, xencons_connect_backend, xencons_backend_changed, xencons_remove).
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store, Watch } from '../../xenstore/index.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import { formatXenbusState, parseXenbusState, type XenbusState } from '../console/xenbus-state.js';
import { GuestPage } from '../hypervisor/guest-page.js';
import type { SimulatedHypervisor } from '../hypervisor/simulated.js';
import { GuestRing } from './guest-ring.js';
import { HvcConsole, type HvcFigures } from './hvc-console.js';
import { HVC_COOKIE, type HvcLines } from './hvc-lines.js';
import type { XenbusSysfs } from './xenbus-sysfs.js';

export interface KernelParts {
  readonly domid: number;
  readonly store: Store;
  readonly hypervisor: SimulatedHypervisor;
  readonly lines: HvcLines;
  readonly sysfs: XenbusSysfs;
  readonly clock: Clock;
  readonly log: Logger;
  /** False for Linux before 6.7: at Closing the tty stays, and its writer spins (commit a30badfd7c13). */
  readonly hangsUpOnClosing: boolean;
}

interface Connection {
  readonly console: HvcConsole;
  readonly reference: number;
  readonly port: number;
  readonly index: number;
  /** Of a domain id that is no more: nothing of it can be given back. */
  readonly lost?: boolean;
}

export interface DeviceStatus {
  readonly nodename: string;
  readonly state: XenbusState;
  /** The X of /dev/hvcX; undefined before the probe succeeded and after the hang-up. Above 7 there is no such device. */
  readonly hvcIndex: number | undefined;
  readonly reference: number | undefined;
  readonly port: number | undefined;
  readonly figures: HvcFigures | undefined;
}

export class ConsoleDevice {
  readonly nodename: string;
  readonly busId: string;
  #kernel: KernelParts;
  #state: XenbusState = 'initialising';
  #connection: Connection | undefined;
  #hungUp = false;
  #bound = false;
  #backendStatePath = '';
  #backendWatch: Watch | undefined;

  constructor(kernel: KernelParts, name: string) {
    this.#kernel = kernel;
    this.nodename = `device/console/${name}`;
    this.busId = `console-${name}`;
  }

  get status(): DeviceStatus {
    const connection = this.#connection;
    return {
      nodename: this.nodename,
      state: this.#state,
      hvcIndex: this.#hungUp ? undefined : connection?.index,
      reference: connection?.reference,
      port: connection?.port,
      figures: connection?.console.figures,
    };
  }

  /** `onBackend` is called for each change of the backend's state, and must call `backendChanged` in its turn. */
  async probe(onBackend: () => void): Promise<void> {
    const { sysfs, store, log } = this.#kernel;
    sysfs.add(this.busId, this.nodename);
    try {
      const otherEnd = await this.#readOtherEnd(store);
      await this.#connect(otherEnd.domid);
      this.#bound = true;
      await this.#watchBackend(otherEnd.path, onBackend);
      sysfs.emit(this.busId, 'bind');
    } catch (error) {
      if (isXenstoreError(error, 'closed', 'disconnected')) throw error;
      // A failed probe is final: the kernel does not look at the device again before it is removed.
      log.log('warn', 'probe failed', { device: this.nodename, error: String(error) });
      this.#disconnect();
      await this.#switchState('closed').catch(() => {});
    }
  }

  /**
   * The domain goes on under another id, on another xenstore connection. What it had granted and bound is gone with the
   * former one. Without nodes the device stays as it was, terminal included, and is dead, which is told in xenstore
   * (linux:drivers/xen/xenbus/xenbus_probe.c, xenbus_dev_resume; xenbus_client.c, xenbus_va_dev_error).
   */
  async resume(kernel: KernelParts, onBackend: () => void): Promise<void> {
    this.#kernel = kernel;
    this.#backendWatch = undefined; // it ended with the connection
    if (this.#connection !== undefined) this.#connection = { ...this.#connection, lost: true };
    if (!this.#bound) return;
    try {
      const otherEnd = await this.#readOtherEnd(kernel.store);
      this.#state = 'initialising';
      this.#disconnect();
      this.#hungUp = false;
      await this.#connect(otherEnd.domid);
      await this.#watchBackend(otherEnd.path, onBackend);
    } catch (error) {
      if (isXenstoreError(error, 'closed', 'disconnected')) throw error;
      kernel.log.log('warn', 'failed to restore', { device: this.nodename, error: String(error) });
      await kernel.store.write(`error/${this.nodename}/error`, `2 reading other end details from ${this.nodename}`);
    }
  }

  async #readOtherEnd(store: Store): Promise<{ domid: number; path: string }> {
    const domid = Number(await store.readText(`${this.nodename}/backend-id`));
    const path = await store.readText(`${this.nodename}/backend`);
    if (!(await store.exists(path))) throw new Error(`ENOENT: ${path}`);
    return { domid, path };
  }

  async #watchBackend(path: string, onBackend: () => void): Promise<void> {
    this.#backendStatePath = `${path}/state`;
    this.#backendWatch = await this.#kernel.store.watch(this.#backendStatePath, onBackend);
  }

  async backendChanged(): Promise<void> {
    if (!this.#bound) return;
    const state = parseXenbusState(await this.#kernel.store.readText(this.#backendStatePath).catch(() => undefined));
    if (state === 'connected') {
      await this.#switchState('connected');
    } else if (state === 'closing' || (state === 'closed' && this.#state !== 'closed')) {
      if (this.#kernel.hangsUpOnClosing) this.#hangUp();
      await this.#switchState('closed');
    }
  }

  /** The frontend directory is gone: the page is taken back at once, mapped or not. */
  async remove(): Promise<void> {
    const { sysfs } = this.#kernel;
    const watch = this.#backendWatch;
    this.#backendWatch = undefined;
    await watch?.stop();
    this.#disconnect();
    if (this.#bound) sysfs.emit(this.busId, 'unbind');
    this.#bound = false;
    sysfs.remove(this.busId);
  }

  async #connect(backendDomid: number): Promise<void> {
    const kernel = this.#kernel;
    const { domid, hypervisor, store, lines, clock } = kernel;
    // Only the last character counts: 11 collides with 1, and whatever ends in 0 is taken for the primary console.
    const digit = this.nodename.charCodeAt(this.nodename.length - 1) - '0'.charCodeAt(0);
    if (digit === 0) throw new Error('ENODEV: the device id ends in 0');
    const page = new GuestPage();
    const port = hypervisor.allocUnbound(domid, backendDomid);
    const reference = hypervisor.grant(domid, backendDomid, page);
    const console = new HvcConsole({
      vtermno: HVC_COOKIE + digit,
      ring: new GuestRing(page),
      notify: () => {
        if (this.#kernel === kernel) hypervisor.notify(domid, port);
      },
      clock,
    });
    this.#connection = { console, reference, port, index: lines.allocate(console) };
    hypervisor.onEvent(domid, port, () => console.pump());
    await store.transaction(async (tx) => {
      await tx.write(`${this.nodename}/ring-ref`, String(reference));
      await tx.write(`${this.nodename}/port`, String(port));
    });
    await this.#switchState('initialised');
  }

  /** linux:drivers/xen/xenbus/xenbus_client.c, __xenbus_switch_state: an absent state key is not created. */
  async #switchState(state: XenbusState): Promise<void> {
    if (state === this.#state) return;
    const path = `${this.nodename}/state`;
    await this.#kernel.store.transaction(async (tx) => {
      if ((await tx.tryReadText(path)) === undefined) return;
      await tx.write(path, formatXenbusState(state));
    });
    this.#state = state;
    this.#kernel.sysfs.setState(this.busId, state);
  }

  #hangUp(): void {
    if (this.#connection === undefined || this.#hungUp) return;
    this.#hungUp = true;
    this.#kernel.lines.remove(this.#connection.console);
  }

  #disconnect(): void {
    const { domid, hypervisor, log } = this.#kernel;
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#hangUp();
    this.#connection = undefined;
    if (connection.lost === true) return;
    hypervisor.closePort(domid, connection.port);
    if (!hypervisor.revoke(domid, connection.reference)) {
      log.log('warn', 'ring page freed while the backend maps it', { device: this.nodename });
    }
  }
}
