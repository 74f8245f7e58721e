/**
 * Where the records of wanted channels lie: one JSON file for each domain, only for root, replaced in one step. A file
 * that is not as we write them is told and left alone. Knows no xenstore.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import {
  type DesiredChannel,
  type DesiredRecord,
  type DomainKey,
  MAX_CHANNELS_PER_DOMAIN,
  parseRecord,
  recordToJson,
  ShapeError,
} from './desired.js';
import type { Domain } from './domains.js';
import { type Dom0Environment, mapBounded } from './environment.js';
import { withFileLock } from './file-lock.js';

/** A record with all its channels has a tenth of it. */
export const MAX_RECORD_BYTES = 64 * 1024;
/** More domains than any host has had. */
export const MAX_RECORDS = 8192;
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;
const RECORD_FILE = /^(uuid-[0-9a-f-]{36}|name-[0-9a-f]{64})\.json$/;

export interface DesiredProblem {
  readonly file: string;
  readonly message: string;
}

export interface AllRecords {
  readonly records: readonly DesiredRecord[];
  /** Files that hold no record, and why. */
  readonly problems: readonly DesiredProblem[];
}

/** A name may be anything; its hash is a file name. */
export function recordFileName(key: DomainKey): string {
  if ('uuid' in key) return `uuid-${key.uuid}.json`;
  return `name-${createHash('sha256').update(key.name).digest('hex')}.json`;
}

export const keyOf = ({ uuid, name }: Pick<Domain, 'uuid' | 'name'>): DomainKey | undefined =>
  uuid !== undefined ? { uuid } : name !== undefined ? { name } : undefined;

/** The records of a host; undefined: it has no place for them. */
export function desiredStoreOf({ stateDirectory, clock }: Dom0Environment): DesiredStore | undefined {
  return stateDirectory === undefined ? undefined : new DesiredStore({ directory: stateDirectory, clock });
}

export class DesiredStore {
  readonly directory: string;
  readonly #clock: Clock;

  constructor({ directory, clock }: { readonly directory: string; readonly clock: Clock }) {
    this.directory = directory;
    this.#clock = clock;
  }

  /** Every record; a directory that is not there holds none. */
  async all(): Promise<AllRecords> {
    if (!(await this.#checkDirectory())) return { records: [], problems: [] };
    const names = (await readdir(this.directory)).filter((name) => RECORD_FILE.test(name)).sort();
    const problems: DesiredProblem[] = [];
    if (names.length > MAX_RECORDS) {
      problems.push({ file: this.directory, message: `it holds ${names.length} records, limit ${MAX_RECORDS}` });
    }
    const found = await mapBounded(names.slice(0, MAX_RECORDS), (name) =>
      this.#read(name).catch((error: unknown) => {
        if (!(error instanceof ChannelError)) throw error;
        problems.push({ file: join(this.directory, name), message: error.message });
        return undefined;
      }),
    );
    return { records: found.filter((record) => record !== undefined), problems };
  }

  /** What is wanted for one domain, by its uuid and by its name; the uuid's word counts more. */
  async recordsFor(domain: Pick<Domain, 'uuid' | 'name'>): Promise<DesiredRecord[]> {
    if (!(await this.#checkDirectory())) return [];
    const { uuid, name } = domain;
    const keys: DomainKey[] = [...(uuid === undefined ? [] : [{ uuid }]), ...(name === undefined ? [] : [{ name }])];
    const found = await Promise.all(keys.map((key) => this.#read(recordFileName(key))));
    return found.filter((record) => record !== undefined);
  }

  /** One record. Throws `state-corrupt`. */
  async read(key: DomainKey): Promise<DesiredRecord | undefined> {
    if (!(await this.#checkDirectory())) return undefined;
    return this.#read(recordFileName(key));
  }

  /**
   * Changes the channels of one record; without channels there is no record. Nothing else changes it meanwhile. Throws
   * `state-corrupt`, `state-locked`, and what the file system says.
   */
  async change(
    key: DomainKey,
    edit: (channels: readonly DesiredChannel[]) => readonly DesiredChannel[],
    label?: string,
  ): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: DIRECTORY_MODE });
    await this.#checkDirectory();
    const name = recordFileName(key);
    await withFileLock(join(this.directory, `${name}.lock`), this.#clock, async () => {
      const before = await this.#read(name);
      const channels = edit(before?.channels ?? []);
      if (channels === before?.channels) return;
      const named = label ?? before?.label;
      const record = { key, ...(named === undefined || !('uuid' in key) ? {} : { label: named }), channels };
      if (channels.length > 0) await this.#write(name, record);
      else if (before !== undefined) await this.#remove(name);
    });
  }

  /** Writes or replaces one channel in a record. */
  put(key: DomainKey, channel: DesiredChannel, label?: string): Promise<void> {
    return this.change(
      key,
      (channels) => {
        const others = channels.filter(({ spec }) => spec.name !== channel.spec.name);
        if (others.length >= MAX_CHANNELS_PER_DOMAIN) {
          throw new ChannelError(
            'device-ids-exhausted',
            `the record of one domain can hold ${MAX_CHANNELS_PER_DOMAIN} channels, and has ${others.length}`,
            { limit: MAX_CHANNELS_PER_DOMAIN },
          );
        }
        return [...others, channel];
      },
      label,
    );
  }

  /** Says where a wanted channel is now. Never brings back one that was forgotten meanwhile. */
  moved(key: DomainKey, channelName: string, last: { domid: number; deviceId: number }): Promise<void> {
    return this.change(key, (channels) => {
      const found = channels.find(({ spec }) => spec.name === channelName);
      if (found === undefined || (found.last?.domid === last.domid && found.last.deviceId === last.deviceId)) {
        return channels;
      }
      return channels.map((channel) => (channel === found ? { ...channel, last } : channel));
    });
  }

  /** Takes one channel out of a record; false: it was not there. */
  async forget(key: DomainKey, channelName: string): Promise<boolean> {
    // Without a directory there is nothing to forget, and none is made.
    if ((await this.read(key)) === undefined) return false;
    let found = false;
    await this.change(key, (channels) => {
      found = channels.some(({ spec }) => spec.name === channelName);
      return found ? channels.filter(({ spec }) => spec.name !== channelName) : channels;
    });
    return found;
  }

  /** False: there is none. Whoever else may write into it could make root attach what they like. */
  async #checkDirectory(): Promise<boolean> {
    const found = await stat(this.directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (found === undefined) return false;
    if (!found.isDirectory()) throw corrupt(this.directory, 'it is no directory');
    if (isForeign(found)) throw corrupt(this.directory, 'others than its owner and root may write into it');
    return true;
  }

  async #read(name: string): Promise<DesiredRecord | undefined> {
    const path = join(this.directory, name);
    const text = await readOwnFile(path);
    if (text === undefined) return undefined;
    try {
      const record = parseRecord(JSON.parse(text));
      if (recordFileName(record.key) !== name) throw new ShapeError('/domain', 'it belongs into another file');
      return record;
    } catch (error) {
      if (!(error instanceof ShapeError || error instanceof SyntaxError)) throw error;
      throw corrupt(path, error instanceof ShapeError ? error.message : 'it is no JSON');
    }
  }

  /** Beside it, whole and on the disk, then over it: whoever reads sees the old one or the new one. */
  async #write(name: string, record: DesiredRecord): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify(recordToJson(record), null, 2)}\n`);
    if (bytes.length > MAX_RECORD_BYTES) {
      throw new ChannelError(
        'usage-invalid',
        `the record would have ${bytes.length} bytes, limit ${MAX_RECORD_BYTES}`,
        { bytes: bytes.length },
      );
    }
    const path = join(this.directory, name);
    // A crash leaves this file behind; the next writer, who holds the lock, begins it anew.
    const beside = `${path}.new`;
    await unlink(beside).catch(ignoreAbsent);
    const file = await open(beside, 'wx', FILE_MODE);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
    await this.#syncDirectory();
  }

  async #remove(name: string): Promise<void> {
    await unlink(join(this.directory, name)).catch(ignoreAbsent);
    await this.#syncDirectory();
  }

  async #syncDirectory(): Promise<void> {
    const directory = await open(this.directory, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }
}

/** The text of a regular file that nobody else can write; undefined: it is not there. */
async function readOwnFile(path: string): Promise<string | undefined> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    // Not held up by a FIFO, and not led elsewhere by a link.
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    if (code === 'ELOOP' || code === 'ENXIO') throw corrupt(path, 'it is no regular file');
    throw error;
  }
  try {
    const found = await file.stat();
    if (!found.isFile()) throw corrupt(path, 'it is no regular file');
    if (isForeign(found)) throw corrupt(path, 'others than its owner and root may write it');
    if (found.size > MAX_RECORD_BYTES) {
      throw corrupt(path, `it has ${found.size} bytes, limit ${MAX_RECORD_BYTES}`);
    }
    const bytes = Buffer.alloc(found.size);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, bytesRead));
  } catch (error) {
    if (error instanceof TypeError) throw corrupt(path, 'it is no UTF-8');
    throw error;
  } finally {
    await file.close();
  }
}

function isForeign({ uid, mode }: { readonly uid: number; readonly mode: number }): boolean {
  const own = process.getuid?.() ?? 0;
  return (uid !== 0 && uid !== own) || (mode & 0o022) !== 0;
}

function corrupt(path: string, why: string): ChannelError {
  return new ChannelError('state-corrupt', `${path} cannot be used: ${why}; it is left as it is`, { path });
}

function ignoreAbsent(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
