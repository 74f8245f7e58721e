/**
 * The record of channels that shall exist: what it holds, and how it is read from JSON and written to it, strictly.
 * Knows no file and no host; where records lie is the business of desired-store.ts.
 */
import { ChannelError } from '../base/errors.js';
import { printable } from '../console/name.js';
import { type ChannelSpec, type ChannelSpecInput, DEFAULT_LIMIT_BYTES, parseChannelSpec } from '../console/spec.js';
import { isUuid } from './domains.js';

/** Whose channels they are: of the domain with this uuid, or, where none was known, of every domain with this name. */
export type DomainKey = { readonly uuid: string } | { readonly name: string };

export interface DesiredChannel {
  readonly spec: ChannelSpec;
  /** Where it was attached last; absent: never. */
  readonly last?: { readonly domid: number; readonly deviceId: number };
}

export interface DesiredRecord {
  readonly key: DomainKey;
  /** Of a domain with a uuid: what it was called when this was written. Only shown and searched. */
  readonly label?: string;
  readonly channels: readonly DesiredChannel[];
}

export const FORMAT = 1;
/** Linux guests know nine devices; a record may hold channels that wait for a place. */
export const MAX_CHANNELS_PER_DOMAIN = 16;
/** xl takes longer ones, too, but then nobody can type them. */
export const MAX_DOMAIN_NAME_CHARACTERS = 1024;
const MAX_DOMID = 0x7fef;

type Json = Readonly<Record<string, unknown>>;

const SPEC_KEYS = [
  'name',
  'connection',
  'path',
  'deviceId',
  'backend',
  'mode',
  'owner',
  'group',
  'limitBytes',
  'overflow',
  'speakFirst',
  'connect',
  'log',
] as const;

/** Of the keys that hold no text. */
const TYPES: Readonly<Record<string, string>> = {
  deviceId: 'number',
  limitBytes: 'number',
  speakFirst: 'boolean',
  connect: 'boolean',
  log: 'object',
};

/** What is wrong, and where: a JSON pointer (RFC 6901). */
export class ShapeError extends Error {
  readonly pointer: string;

  constructor(pointer: string, message: string) {
    super(pointer === '' ? message : `${pointer}: ${message}`);
    this.pointer = pointer;
  }
}

/** One step of a JSON pointer, cut, and without what a terminal would obey. */
export const pointerStep = (key: string | number): string =>
  `/${String(key)
    .slice(0, 80)
    .replace(/[^\x20-\x7e]/g, '?')
    .replaceAll('~', '~0')
    .replaceAll('/', '~1')}`;

/** Throws ShapeError. */
export function parseRecord(data: unknown): DesiredRecord {
  const { format, domain, channels } = object(data, ['format', 'domain', 'channels'], '');
  if (format !== FORMAT) throw new ShapeError('/format', `it is ${show(format)}, and only ${FORMAT} is known`);
  const { uuid, name } = object(domain, ['uuid', 'name'], '/domain');
  if (uuid !== undefined && !isUuid(uuid)) throw new ShapeError('/domain/uuid', `${show(uuid)} is no uuid`);
  if (name !== undefined) checkDomainName(name, '/domain/name');
  const key: DomainKey | undefined =
    typeof uuid === 'string' ? { uuid: uuid.toLowerCase() } : typeof name === 'string' ? { name } : undefined;
  if (key === undefined) throw new ShapeError('/domain', 'it has neither a uuid nor a name');
  const label = 'uuid' in key && typeof name === 'string' ? { label: name } : {};
  return { key, ...label, channels: parseChannels(channels, '/channels', true) };
}

/** A list of channels, each name once. `withLast`: also where each was attached last. */
export function parseChannels(data: unknown, at: string, withLast = false): DesiredChannel[] {
  if (!Array.isArray(data)) throw new ShapeError(at, 'it is no list');
  if (data.length > MAX_CHANNELS_PER_DOMAIN) {
    throw new ShapeError(at, `it has ${data.length} channels, limit ${MAX_CHANNELS_PER_DOMAIN}`);
  }
  const channels = data.map((item, index) => parseChannel(item, `${at}${pointerStep(index)}`, withLast));
  for (const key of ['name', 'deviceId', 'path'] as const) {
    const values = channels.map(({ spec }) => spec[key]);
    const twice = values.findIndex((value, index) => value !== undefined && values.indexOf(value) < index);
    if (twice >= 0) throw new ShapeError(`${at}/${twice}/${key}`, `${show(values[twice])} is used twice`);
  }
  return channels;
}

function parseChannel(item: unknown, at: string, withLast: boolean): DesiredChannel {
  const { last, ...given } = object(item, [...SPEC_KEYS, ...(withLast ? ['last'] : [])], at);
  if (typeof given['name'] !== 'string') throw new ShapeError(`${at}/name`, `it is ${show(given['name'])}, not a name`);
  for (const [key, value] of Object.entries(given)) {
    const wanted = TYPES[key] ?? 'string';
    if (typeof value !== wanted) throw new ShapeError(`${at}/${key}`, `it is ${show(value)}, not a ${wanted}`);
  }
  const mode = parseMode(given['mode'], at);
  if (given['log'] !== undefined) checkLog(given['log'], `${at}/log`);
  try {
    // The types of all keys were looked at above.
    const spec = parseChannelSpec({ ...(given as unknown as ChannelSpecInput), mode });
    return { spec, ...(last === undefined ? {} : { last: parseLast(last, `${at}/last`) }) };
  } catch (error) {
    if (error instanceof ChannelError) throw new ShapeError(at, error.message);
    throw error;
  }
}

function checkLog(data: unknown, at: string): void {
  const types = { path: 'string', maxBytes: 'number', keep: 'number', timestamps: 'boolean' } as const;
  const log = object(data, Object.keys(types), at);
  for (const [key, wanted] of Object.entries(types)) {
    if (typeof log[key] === wanted || (log[key] === undefined && key !== 'path')) continue;
    throw new ShapeError(`${at}/${key}`, `it is ${show(log[key])}, not a ${wanted}`);
  }
}

/** As chmod takes it: JSON has no octal numbers. */
function parseMode(mode: unknown, at: string): number | undefined {
  if (mode === undefined) return undefined;
  if (typeof mode === 'string' && /^0?[0-7]{3}$/.test(mode)) return Number.parseInt(mode, 8);
  throw new ShapeError(`${at}/mode`, `it is ${show(mode)}, not an octal mode such as "0660"`);
}

function parseLast(data: unknown, at: string): { domid: number; deviceId: number } {
  const { domid, deviceId } = object(data, ['domid', 'deviceId'], at);
  if (!isWhole(domid, 1, MAX_DOMID)) throw new ShapeError(`${at}/domid`, `${show(domid)} is no domain id`);
  if (!isWhole(deviceId, 1, 9)) throw new ShapeError(`${at}/deviceId`, `${show(deviceId)} is no device id`);
  return { domid, deviceId };
}

export function checkDomainName(name: unknown, at: string): asserts name is string {
  if (typeof name === 'string' && name.length > 0 && name.length <= MAX_DOMAIN_NAME_CHARACTERS) return;
  throw new ShapeError(at, `${show(name)} is no domain name of 1 to ${MAX_DOMAIN_NAME_CHARACTERS} characters`);
}

const isWhole = (value: unknown, min: number, max: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;

/** A value for a message. */
export const show = (value: unknown): string =>
  typeof value === 'string' ? printable(value) : printable(JSON.stringify(value) ?? 'missing').slice(1, -1);

/** An object with no other keys than these. */
export function object(data: unknown, keys: readonly string[] | undefined, at: string): Json {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) throw new ShapeError(at, 'it is no object');
  const unknown = keys === undefined ? undefined : Object.keys(data).find((key) => !keys.includes(key));
  if (unknown !== undefined) {
    throw new ShapeError(`${at}${pointerStep(unknown)}`, `there is no such key; known are ${keys?.join(', ')}`);
  }
  return data as Json;
}

/** What `parseRecord` reads. */
export function recordToJson({ key, label, channels }: DesiredRecord): unknown {
  const domain = 'uuid' in key && label !== undefined ? { ...key, name: label } : key;
  return {
    format: FORMAT,
    domain,
    channels: channels.map(({ spec, last }) => ({ ...specToJson(spec), ...(last === undefined ? {} : { last }) })),
  };
}

/** Without what is the default anyway. */
export function specToJson({ mode, limitBytes, backend, connection, ...rest }: ChannelSpec): Json {
  return {
    ...rest,
    ...(connection === 'socket' ? {} : { connection }),
    ...(backend === 'native' ? {} : { backend }),
    ...(mode === undefined ? {} : { mode: mode.toString(8).padStart(4, '0') }),
    ...(limitBytes === DEFAULT_LIMIT_BYTES ? {} : { limitBytes }),
  };
}
