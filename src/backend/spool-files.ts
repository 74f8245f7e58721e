/**
 * Where the spools of all channels are: in files below the run directory, which survive a killed daemon, or in memory.
 * Knows names and places, not what is in them.
 */
import { mkdirSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { ChannelError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { FileSpool, type SpoolFound } from '../chardev/file-spool.js';
import type { SpoolQueue } from '../chardev/spool.js';
import { canMapFiles } from '../sys/file-memory.js';
import type { ChannelConfig } from './discovery.js';

/** `auto`: files where the run directory is in memory, as /run is; a disk would hold up the daemon now and then. */
export type SpoolPlace = 'auto' | 'file' | 'memory';

export interface OpenedSpool {
  readonly spool: SpoolQueue;
  readonly found: SpoolFound;
}

const DIRECTORY_MODE = 0o700;
/** linux:include/uapi/linux/magic.h, TMPFS_MAGIC and RAMFS_MAGIC. */
const MEMORY_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);
const NAME = /^([0-9]{1,5})-([1-9])$/;

export class SpoolFiles {
  readonly #directory: string;
  readonly #wanted: SpoolPlace;
  readonly #log: Logger;
  #place: 'file' | 'memory' | undefined;

  constructor(runDirectory: string, wanted: SpoolPlace, log: Logger) {
    this.#directory = `${runDirectory}/spool`;
    this.#wanted = wanted;
    this.#log = log;
  }

  /** Also takes up what the daemon before this one left, whatever it was. */
  open({ domid, deviceId, uuid, limitBytes, overflow }: ChannelConfig, log: Logger): OpenedSpool {
    this.#place ??= this.#findPlace();
    return FileSpool.open({
      path: `${this.#directory}/${domid}-${deviceId}`,
      key: `${uuid ?? ''}/${domid}/${deviceId}`,
      limitBytes,
      policy: overflow,
      inMemory: this.#place === 'memory',
      onDegraded: (error) => log.log('warn', 'the spool goes on in memory: a killed daemon loses it', told(error)),
    });
  }

  /** Removes the files of channels that are not there any more; returns their names. */
  discardExcept(known: (domid: number, deviceId: number) => boolean): string[] {
    const left = this.#list().filter((name) => {
      const match = NAME.exec(name);
      return match === null || !known(Number(match[1]), Number(match[2]));
    });
    for (const name of left) rmSync(`${this.#directory}/${name}`, { force: true, recursive: true });
    return left;
  }

  #findPlace(): 'file' | 'memory' {
    if (this.#wanted === 'memory') return 'memory';
    try {
      if (!canMapFiles()) throw new ChannelError('module-missing', 'the optional module koffi is not installed');
      mkdirSync(this.#directory, { recursive: true, mode: DIRECTORY_MODE });
      if (this.#wanted === 'file' || MEMORY_FILE_SYSTEMS.has(statfsSync(this.#directory).type)) return 'file';
      this.#log.log('info', 'the run directory is on a disk: spools are in memory', { directory: this.#directory });
    } catch (error) {
      this.#log.log('warn', 'spools are in memory: a killed daemon loses them', told(error));
    }
    return 'memory';
  }

  #list(): string[] {
    try {
      return readdirSync(this.#directory);
    } catch {
      return [];
    }
  }
}

const told = (error: unknown): { error: string } => ({ error: error instanceof Error ? error.message : String(error) });
