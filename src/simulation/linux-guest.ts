/**
 * A simulated Linux kernel of one domain, as far as PV consoles go: boots on a xenstore connection of its own domain,
 * plugs and unplugs consoles, and shows its tty lines and sysfs below a directory. Knows no backend and no agent.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Store } from '../../xenstore/index.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import { GuestPage } from '../hypervisor/guest-page.js';
import type { SimulatedHypervisor } from '../hypervisor/simulated.js';
import type { DeviceStatus, KernelParts } from './console-device.js';
import { GuestRing } from './guest-ring.js';
import { HvcConsole } from './hvc-console.js';
import { HVC_COOKIE, HvcLines } from './hvc-lines.js';
import type { TtyMaker } from './tty-port.js';
import { FrontendBus } from './xenbus.js';
import { type Uevent, XenbusSysfs } from './xenbus-sysfs.js';

export interface LinuxGuestOptions {
  readonly domid: number;
  /** A connection with the rights of this domain. The guest does not close it. */
  readonly store: Store;
  readonly hypervisor: SimulatedHypervisor;
  /** Its `dev` and `sys` appear here. */
  readonly root: string;
  readonly ttys: TtyMaker;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onUevent?: (event: Uevent) => void;
  /** Whether the primary console has hvc0, as in every domain that libxl builds. Default true. */
  readonly primary?: boolean;
  /** '6.1' (default) has the fixes of 2023 for unplugging, as its stable series has; '5.10' has not. */
  readonly kernelVersion?: '5.10' | '6.1';
}

export class LinuxGuest {
  readonly root: string;
  #options: LinuxGuestOptions;
  readonly #lines: HvcLines;
  readonly #sysfs: XenbusSysfs;
  readonly #bus: FrontendBus;

  private constructor(options: LinuxGuestOptions) {
    const { root, ttys, onUevent = () => {} } = options;
    this.#options = options;
    this.root = root;
    this.#lines = new HvcLines(join(root, 'dev'), ttys);
    this.#sysfs = new XenbusSysfs(root, onUevent);
    this.#bus = new FrontendBus(this.#parts());
  }

  #parts(): KernelParts {
    const { domid, store, hypervisor, clock, log } = this.#options;
    const hangsUpOnClosing = (this.#options.kernelVersion ?? '6.1') !== '5.10';
    return { domid, store, hypervisor, lines: this.#lines, sysfs: this.#sysfs, clock, log, hangsUpOnClosing };
  }

  /** Resolves when the consoles that the toolstack prepared have been probed. */
  static async boot(options: LinuxGuestOptions): Promise<LinuxGuest> {
    const guest = new LinuxGuest(options);
    if (options.primary ?? true) guest.#startPrimary();
    await guest.#bus.start();
    return guest;
  }

  /** As for `xl save`: it does nothing until `resume`. */
  suspend(): Promise<void> {
    return this.#bus.suspend();
  }

  /** Goes on as another domain: the same memory, other ids, another xenstore connection. */
  async resume({ domid, store, log }: Pick<LinuxGuestOptions, 'domid' | 'store' | 'log'>): Promise<void> {
    this.#options = { ...this.#options, domid, store, log };
    await this.#bus.resume(this.#parts());
  }

  /** The secondary consoles, in the order in which they were probed. */
  get devices(): readonly DeviceStatus[] {
    return this.#bus.devices;
  }

  /** How often this kernel took back a page that a backend still mapped; a genuine one corrupts its page tables then. */
  get warnings(): number {
    return this.#options.hypervisor.guestWarnings(this.#options.domid);
  }

  /** As if the power failed: lines hang up, nothing is written to xenstore, and no page is taken back. */
  async powerOff(): Promise<void> {
    await this.#bus.stop();
    this.#lines.removeAll();
    for (const directory of ['dev', 'sys']) rmSync(join(this.root, directory), { recursive: true, force: true });
  }

  /** hvc0, whose backend is not simulated: what is written there is gone, and nothing ever arrives. */
  #startPrimary(): void {
    const page = new GuestPage();
    const drain = () => page.words.copyWithin(770, 771, 772);
    const console = new HvcConsole({
      vtermno: HVC_COOKIE,
      ring: new GuestRing(page),
      notify: drain,
      clock: this.#options.clock,
    });
    this.#lines.allocate(console);
    const active = join(this.root, 'sys/class/tty/console');
    mkdirSync(active, { recursive: true });
    writeFileSync(join(active, 'active'), 'hvc0\n');
  }
}
