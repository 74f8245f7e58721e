/**
 * What an orderly stop leaves for the next daemon: one file for each channel, with the bytes that only the process had
 * and where in the ring it stopped. Written at once or not at all, believed only when every part of it fits.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { NONCE_PATTERN } from '../console/layout.js';
import type { RingPosition } from '../console/ring.js';
import type { SessionState } from './session-types.js';

/** The channel, and the domain by its lasting name: a domid alone may belong to another domain by now. */
export interface HandoverKey {
  readonly domid: number;
  readonly deviceId: number;
  readonly uuid: string | undefined;
}

/** The ring that was served; undefined when none was. */
export interface ServedRing extends RingPosition {
  readonly ringRef: number;
  readonly port: number;
}

export interface HandoverRecord extends HandoverKey {
  readonly ring: ServedRing | undefined;
  readonly session: SessionState;
}

export type Taken =
  | { readonly kind: 'none' }
  | { readonly kind: 'record'; readonly record: HandoverRecord }
  | { readonly kind: 'unusable'; readonly why: string };

const VERSION = 1;
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
const MAX_HEADER_BYTES = 4096;
/** Output is bounded by the spool's limit (at most 1 GiB), input by what chardevs hold. */
const MAX_FILE_BYTES = 1024 * 1024 * 1024 + 16 * 1024 * 1024;
const NAME = /^([0-9]{1,5})-([1-9])$/;

export class HandoverFiles {
  readonly #directory: string;

  constructor(runDirectory: string) {
    this.#directory = `${runDirectory}/handover`;
  }

  save(record: HandoverRecord): void {
    mkdirSync(this.#directory, { recursive: true, mode: DIRECTORY_MODE });
    const path = this.#path(record);
    const temporary = `${path}.new`;
    rmSync(temporary, { force: true });
    const fd = openSync(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, FILE_MODE);
    try {
      for (const part of encode(record)) writeAll(fd, part);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  }

  /** Reads the channel's file and removes it: what it holds is now in this process. */
  take(key: HandoverKey): Taken {
    const path = this.#path(key);
    let bytes: Buffer;
    try {
      bytes = readOwnFile(path);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { kind: 'none' };
      return { kind: 'unusable', why: error instanceof Error ? error.message : String(error) };
    } finally {
      rmSync(path, { force: true, recursive: true });
    }
    const decoded = decode(bytes);
    if (typeof decoded === 'string') return { kind: 'unusable', why: decoded };
    if (decoded.domid !== key.domid || decoded.deviceId !== key.deviceId || decoded.uuid !== key.uuid) {
      return { kind: 'unusable', why: `it belongs to another domain (${decoded.uuid ?? 'without uuid'})` };
    }
    return { kind: 'record', record: decoded };
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

  #list(): string[] {
    try {
      return readdirSync(this.#directory);
    } catch {
      return [];
    }
  }

  #path({ domid, deviceId }: HandoverKey): string {
    return `${this.#directory}/${domid}-${deviceId}`;
  }
}

/** One line of JSON, then the output, then the input. */
export function encode({ session, ...rest }: HandoverRecord): Uint8Array[] {
  const { output, input, ...figures } = session;
  const sha256 = createHash('sha256').update(output).update(input).digest('hex');
  const header = {
    version: VERSION,
    ...rest,
    uuid: rest.uuid ?? null,
    ring: rest.ring ?? null,
    session: { ...figures, nonce: figures.nonce ?? null },
    outputBytes: output.length,
    inputBytes: input.length,
    sha256,
  };
  return [Buffer.from(`${JSON.stringify(header)}\n`), output, input];
}

/** The record, or why it is none. */
export function decode(bytes: Buffer): HandoverRecord | string {
  const end = bytes.subarray(0, MAX_HEADER_BYTES).indexOf(0x0a);
  if (end === -1) return 'it has no header';
  const header = parseJson(bytes.toString('utf8', 0, end));
  if (!isRecord(header) || header['version'] !== VERSION) return 'its header is of another version';
  const outputBytes = count(header['outputBytes']);
  const inputBytes = count(header['inputBytes']);
  if (outputBytes === undefined || inputBytes === undefined) return 'its header has no lengths';
  const body = bytes.subarray(end + 1);
  if (body.length !== outputBytes + inputBytes) return `it has ${body.length} bytes, not ${outputBytes + inputBytes}`;
  if (createHash('sha256').update(body).digest('hex') !== header['sha256']) return 'its checksum is wrong';
  const domid = count(header['domid']);
  const deviceId = count(header['deviceId']);
  const ring = header['ring'] === null ? undefined : parseRing(header['ring']);
  const figures = parseFigures(header['session']);
  const uuid = header['uuid'] === null ? undefined : header['uuid'];
  if (domid === undefined || deviceId === undefined || ring === null || figures === undefined) {
    return 'a figure in its header is no such thing';
  }
  if (uuid !== undefined && typeof uuid !== 'string') return 'its uuid is no such thing';
  const session = { ...figures, output: body.subarray(0, outputBytes), input: body.subarray(outputBytes) };
  return { domid, deviceId, uuid, ring, session };
}

function parseRing(value: unknown): ServedRing | null {
  if (!isRecord(value)) return null;
  const [ringRef, port, outConsumed, inProduced] = ['ringRef', 'port', 'outConsumed', 'inProduced'].map((key) =>
    count(value[key]),
  );
  if (ringRef === undefined || port === undefined || outConsumed === undefined || inProduced === undefined) return null;
  return { ringRef, port, outConsumed, inProduced };
}

function parseFigures(value: unknown): Omit<SessionState, 'output' | 'input'> | undefined {
  if (!isRecord(value)) return undefined;
  const [fromGuestBytes, toGuestBytes, deliveredBytes, droppedBytes] = [
    'fromGuestBytes',
    'toGuestBytes',
    'deliveredBytes',
    'droppedBytes',
  ].map((key) => count(value[key]));
  const { spoken, answering, nonce } = value;
  if (fromGuestBytes === undefined || toGuestBytes === undefined) return undefined;
  if (deliveredBytes === undefined || droppedBytes === undefined) return undefined;
  if (typeof spoken !== 'boolean' || typeof answering !== 'boolean') return undefined;
  if (nonce !== null && (typeof nonce !== 'string' || !NONCE_PATTERN.test(nonce))) return undefined;
  const figures = { fromGuestBytes, toGuestBytes, deliveredBytes, droppedBytes, spoken, answering };
  return nonce === null ? figures : { ...figures, nonce };
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function readOwnFile(path: string): Buffer {
  if (lstatSync(path).isFile() === false) throw new Error('it is no regular file');
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { uid, mode, size } = fstatSync(fd);
    if (uid !== process.getuid?.()) throw new Error(`it belongs to user ${uid}`);
    if ((mode & 0o077) !== 0) throw new Error(`others may use it (mode ${(mode & 0o777).toString(8)})`);
    if (size > MAX_FILE_BYTES) throw new Error(`it has ${size} bytes, the limit is ${MAX_FILE_BYTES}`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}
