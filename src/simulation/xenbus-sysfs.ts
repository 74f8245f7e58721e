/**
 * What user space sees of the Xen bus of a simulated Linux: plain files in place of sysfs attributes, and uevents.
 * Decides nothing.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { XenbusState } from '../console/xenbus-state.js';

export interface Uevent {
  readonly action: 'add' | 'bind' | 'unbind' | 'remove';
  /** `/devices/console-1`. */
  readonly devpath: string;
  readonly sequence: number;
}

/** linux:drivers/xen/xenbus/xenbus_client.c, xenbus_strstate. */
const STATE_NAMES: Readonly<Record<XenbusState, string>> = {
  unknown: 'Unknown',
  initialising: 'Initialising',
  'init-wait': 'InitWait',
  initialised: 'Initialised',
  connected: 'Connected',
  closing: 'Closing',
  closed: 'Closed',
  reconfiguring: 'Reconfiguring',
  reconfigured: 'Reconfigured',
};

export class XenbusSysfs {
  readonly #devices: string;
  readonly #onUevent: (event: Uevent) => void;
  #sequence = 0;

  constructor(root: string, onUevent: (event: Uevent) => void) {
    this.#devices = join(root, 'sys/bus/xen/devices');
    this.#onUevent = onUevent;
    mkdirSync(this.#devices, { recursive: true });
  }

  add(busId: string, nodename: string): void {
    const directory = join(this.#devices, busId);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'nodename'), `${nodename}\n`);
    writeFileSync(join(directory, 'devtype'), 'console\n');
    writeFileSync(join(directory, 'modalias'), 'xen:console\n');
    this.setState(busId, 'initialising');
    this.emit(busId, 'add');
  }

  setState(busId: string, state: XenbusState): void {
    writeFileSync(join(this.#devices, busId, 'state'), `${STATE_NAMES[state]}\n`);
  }

  remove(busId: string): void {
    rmSync(join(this.#devices, busId), { recursive: true, force: true });
    this.emit(busId, 'remove');
  }

  emit(busId: string, action: Uevent['action']): void {
    this.#onUevent({ action, devpath: `/devices/${busId}`, sequence: ++this.#sequence });
  }
}
