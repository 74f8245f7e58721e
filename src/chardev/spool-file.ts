/**
 * The file under a spool: made, found again, mapped, made longer and shorter. Its storage is always there before it is
 * touched: a page that the file system has no room for would end the process. Knows no queue.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import type { Mapping } from '../sys/device.js';
import { mapFile } from '../sys/file-memory.js';
import { HEADER_BYTES, readHeader, type SpoolCounters, writeIdentity } from './spool-header.js';

const FILE_MODE = 0o600;
const ZEROS = Buffer.alloc(65536);

export type FoundFile =
  | { readonly kind: 'none' }
  | { readonly kind: 'unusable'; readonly why: string }
  | { readonly kind: 'usable'; readonly fileBytes: number; readonly counters: SpoolCounters };

/** Looks at a file that a process before this one left. Never throws: what cannot be read is unusable. */
export function inspectSpoolFile(path: string, key: string, maxModulus: number): FoundFile {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const { uid, mode, size, nlink } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) return unusable('it is no regular file');
    if (uid !== process.geteuid?.()) return unusable(`it belongs to user ${uid}`);
    if ((mode & 0o7077) !== 0) return unusable(`others may use it (mode ${(mode & 0o7777).toString(8)})`);
    if (nlink !== 1) return unusable(`it has ${nlink} names`);
    if (size > HEADER_BYTES + maxModulus) return unusable(`it has ${size} bytes`);
    const page = new Uint8Array(HEADER_BYTES);
    readSync(fd, page, 0, HEADER_BYTES, 0);
    const counters = readHeader(page, size, key, maxModulus);
    return typeof counters === 'string' ? unusable(counters) : { kind: 'usable', fileBytes: size, counters };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { kind: 'none' };
    return unusable(error instanceof Error ? error.message : String(error));
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

const unusable = (why: string): FoundFile => ({ kind: 'unusable', why });

/** The bytes of a file that `inspectSpoolFile` found usable, for who cannot map it. */
export function readSpoolFile(path: string, { modulus, start, stored, base }: SpoolCounters): Buffer {
  const bytes = Buffer.alloc(stored - start);
  const from = (start - base) % modulus;
  const first = Math.min(bytes.length, modulus - from);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    readFully(fd, bytes.subarray(0, first), HEADER_BYTES + from);
    readFully(fd, bytes.subarray(first), HEADER_BYTES);
  } finally {
    closeSync(fd);
  }
  return bytes;
}

/** Removes whatever a process left there; a directory is not ours and stays. */
export function removeSpoolFile(path: string): void {
  rmSync(path, { force: true });
}

export class SpoolFile {
  readonly #path: string;
  #mapping: Mapping;
  #view: Uint8Array;
  #unlinked = false;

  private constructor(path: string, fileBytes: number) {
    this.#path = path;
    [this.#mapping, this.#view] = this.#map(fileBytes);
  }

  /** Takes over a file that was found usable. */
  static adopt(path: string, fileBytes: number): SpoolFile {
    return new SpoolFile(path, fileBytes);
  }

  /**
   * Makes a new one; `fill` writes into it, and then it takes the place of what stood there, whole. Throws when there is
   * no room, no right or no way to map.
   */
  static create(
    path: string,
    { key, modulus, dataBytes }: { key: string; modulus: number; dataBytes: number },
    fill: (view: Uint8Array) => void,
  ): SpoolFile {
    const temporary = `${path}.new`;
    rmSync(temporary, { force: true });
    const fd = openSync(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, FILE_MODE);
    try {
      writeZeros(fd, 0, HEADER_BYTES + dataBytes);
    } finally {
      closeSync(fd);
    }
    try {
      const file = new SpoolFile(temporary, HEADER_BYTES + dataBytes);
      writeIdentity(file.#view, key, modulus);
      fill(file.#view);
      file.close();
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
    return new SpoolFile(path, HEADER_BYTES + dataBytes);
  }

  /** Header and data. Another one after `resize`. */
  get view(): Uint8Array {
    return this.#view;
  }

  get dataBytes(): number {
    return this.#view.length - HEADER_BYTES;
  }

  /** Throws when there is no room for it, and then nothing has changed. */
  resize(dataBytes: number): void {
    if (this.#unlinked) throw new Error('its file has been removed');
    const before = this.#view.length;
    const after = HEADER_BYTES + dataBytes;
    const fd = openSync(this.#path, constants.O_RDWR | constants.O_NOFOLLOW);
    try {
      if (after > before) growBy(fd, before, after);
      const old = this.#mapping;
      this.#mapping = mapFile(fd, after);
      this.#view = new Uint8Array(this.#mapping.buffer);
      old.unmap();
      if (after < before) ftruncateSync(fd, after);
    } finally {
      closeSync(fd);
    }
  }

  /** The name goes, the memory stays until `close`: a successor may use the path. */
  unlink(): void {
    if (this.#unlinked) return;
    this.#unlinked = true;
    try {
      unlinkSync(this.#path);
    } catch {
      // Somebody has removed it already.
    }
  }

  close(): void {
    this.#mapping.unmap();
  }

  #map(fileBytes: number): [Mapping, Uint8Array] {
    const fd = openSync(this.#path, constants.O_RDWR | constants.O_NOFOLLOW);
    try {
      const mapping = mapFile(fd, fileBytes);
      return [mapping, new Uint8Array(mapping.buffer)];
    } finally {
      closeSync(fd);
    }
  }
}

/** Writing is what makes the file system say that it is full; a hole would say it later, by a signal. */
function growBy(fd: number, from: number, to: number): void {
  try {
    writeZeros(fd, from, to);
  } catch (error) {
    ftruncateSync(fd, from);
    throw error;
  }
}

function writeZeros(fd: number, from: number, to: number): void {
  for (let at = from; at < to; ) at += writeSync(fd, ZEROS, 0, Math.min(ZEROS.length, to - at), at);
}

function readFully(fd: number, target: Uint8Array, position: number): void {
  for (let at = 0; at < target.length; ) {
    const count = readSync(fd, target, at, target.length - at, position + at);
    if (count === 0) throw new Error('it became shorter while it was read');
    at += count;
  }
}
