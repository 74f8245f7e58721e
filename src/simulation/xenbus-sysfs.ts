/**
 * What user space sees of the Xen bus of a simulated Linux: plain files in place of sysfs attributes, and uevents.
 * Decides nothing.
 */
import { mkdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
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

/** More tries than this for a fresh inode number are not worth it. */
const MAX_INODE_TRIES = 64;

export class XenbusSysfs {
  readonly #devices: string;
  readonly #bus: string;
  readonly #onUevent: (event: Uevent) => void;
  #sequence = 0;
  #lastInode = 0;
  #retired = 0;

  constructor(root: string, onUevent: (event: Uevent) => void) {
    this.#devices = join(root, 'sys/devices');
    this.#bus = join(root, 'sys/bus/xen/devices');
    this.#onUevent = onUevent;
    mkdirSync(this.#devices, { recursive: true });
    mkdirSync(this.#bus, { recursive: true });
  }

  add(busId: string, nodename: string): void {
    const directory = join(this.#devices, busId);
    this.#makeDirectory(directory);
    writeFileSync(join(directory, 'nodename'), `${nodename}\n`);
    writeFileSync(join(directory, 'devtype'), 'console\n');
    writeFileSync(join(directory, 'modalias'), 'xen:console\n');
    this.setState(busId, 'initialising');
    symlinkSync(`../../../devices/${busId}`, join(this.#bus, busId));
    this.emit(busId, 'add');
  }

  setState(busId: string, state: XenbusState): void {
    writeFileSync(join(this.#devices, busId, 'state'), `${STATE_NAMES[state]}\n`);
  }

  remove(busId: string): void {
    rmSync(join(this.#bus, busId), { force: true });
    this.#retire(join(this.#devices, busId));
    this.emit(busId, 'remove');
  }

  emit(busId: string, action: Uevent['action']): void {
    this.#onUevent({ action, devpath: `/devices/${busId}`, sequence: ++this.#sequence });
  }

  /**
   * Inode numbers of sysfs ascend with the age of a device (linux:fs/kernfs/dir.c), and programs may rely on it; those
   * of most file systems are reused at once. So a directory with a low number is put aside, and another one made.
   */
  #makeDirectory(directory: string): void {
    for (let attempt = 1; ; attempt++) {
      mkdirSync(directory);
      const { ino } = statSync(directory);
      if (ino > this.#lastInode || attempt === MAX_INODE_TRIES) {
        this.#lastInode = Math.max(ino, this.#lastInode);
        return;
      }
      this.#retire(directory);
    }
  }

  /** Out of sight, but its inode number stays in use until the domain's directory is removed. */
  #retire(directory: string): void {
    renameSync(directory, join(this.#devices, `.retired-${this.#retired++}`));
  }
}
