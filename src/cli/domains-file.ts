/** The JSON file of `simulate --domains`: a list of domains, checked. Knows nothing of how they are made. */
import { readFileSync } from 'node:fs';
import { ChannelError } from '../base/errors.js';
import { channelNameProblem, printable } from '../console/name.js';
import type { DomainSpec } from '../simulation/simulated-domain.js';

type Channel = NonNullable<DomainSpec['channels']>[number];
type Json = Readonly<Record<string, unknown>>;

const KEYS = ['name', 'uuid', 'domid', 'channels', 'agent', 'primary', 'kernelVersion'];
const CHANNEL_KEYS = ['name', 'connection', 'path'];
const MAX_DOMAINS = 1000;
/** Devices that a Linux guest can serve. */
const MAX_CHANNELS = 7;
const LAST_DOMID = 0x7fef;

/** Throws ChannelError `usage-invalid` that names the file, the domain and what is wrong with it. */
export function readDomainsFile(path: string): DomainSpec[] {
  const text = readFileSync(path, 'utf8');
  try {
    return parseDomains(JSON.parse(text));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new ChannelError('usage-invalid', `${path}: ${error.message}`, { path }, { cause: error });
  }
}

function parseDomains(data: unknown): DomainSpec[] {
  if (!Array.isArray(data)) throw new Error('it must hold a list of domains');
  if (data.length > MAX_DOMAINS) throw new Error(`it has ${data.length} domains, limit ${MAX_DOMAINS}`);
  const specs = data.map((item, index) => parseDomain(item, `domain ${index + 1}`));
  for (const key of ['name', 'uuid', 'domid'] as const) {
    const values = specs.map((spec) => spec[key]).filter((value) => value !== undefined);
    const twice = values.find((value, index) => values.indexOf(value) !== index);
    if (twice !== undefined) throw new Error(`two domains have the ${key} ${twice}`);
  }
  return specs;
}

function parseDomain(item: unknown, what: string): DomainSpec {
  const domain = object(item, KEYS, what);
  const { name, uuid, domid, channels, agent, primary, kernelVersion } = domain;
  check(name === undefined || (typeof name === 'string' && /^[\x21-\x7e]{1,255}$/.test(name)), what, 'name', name);
  check(
    uuid === undefined || (typeof uuid === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid)),
    what,
    'uuid',
    uuid,
  );
  check(
    domid === undefined || (Number.isInteger(domid) && (domid as number) >= 1 && (domid as number) <= LAST_DOMID),
    what,
    'domid',
    domid,
  );
  for (const [key, flag] of Object.entries({ agent, primary })) {
    check(flag === undefined || typeof flag === 'boolean', what, key, flag);
  }
  check(
    kernelVersion === undefined || ['5.10', '6.1'].includes(kernelVersion as string),
    what,
    'kernelVersion',
    kernelVersion,
  );
  check(
    channels === undefined || (Array.isArray(channels) && channels.length <= MAX_CHANNELS),
    what,
    'channels',
    channels,
  );
  if (channels === undefined) return domain as DomainSpec;
  const list = (channels as unknown[]).map((channel, index) =>
    parseChannel(channel, `channel ${index + 1} of ${what}`),
  );
  return { ...domain, channels: list } as DomainSpec;
}

/** As in the domain's configuration file; a socket unless it says otherwise. */
function parseChannel(item: unknown, what: string): Channel {
  const { name, connection = 'socket', path } = object(item, CHANNEL_KEYS, what);
  check(typeof name === 'string', what, 'name', name);
  const problem = channelNameProblem(name as string);
  if (problem !== undefined)
    throw new Error(`the name ${printable(name as string)} of ${what} is not allowed: ${problem}`);
  check(connection === 'socket' || connection === 'pty', what, 'connection', connection);
  const isPath = typeof path === 'string' && path.startsWith('/') && connection === 'socket';
  check(path === undefined || isPath, what, 'path', path);
  return { name: name as string, connection: connection as Channel['connection'], ...(isPath ? { path } : {}) };
}

function object(item: unknown, keys: readonly string[], what: string): Json {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) throw new Error(`${what} is no object`);
  const unknown = Object.keys(item).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw new Error(`${what} has '${unknown}', which is none of ${keys.join(', ')}`);
  return item as Json;
}

function check(good: boolean, what: string, key: string, value: unknown): void {
  if (!good) throw new Error(`the ${key} of ${what} cannot be ${JSON.stringify(value)?.slice(0, 80)}`);
}
