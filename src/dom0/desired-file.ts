/**
 * The file of `apply`: which channels which domains shall have, as an admin writes it. JSON in, checked values out; every
 * error names the place by a JSON pointer. Knows no host.
 */
import { ChannelError } from '../base/errors.js';
import { checkDomainName, type DesiredChannel, object, parseChannels, pointerStep, ShapeError } from './desired.js';

export interface DesiredDomain {
  /** Name or uuid. */
  readonly who: string;
  readonly channels: readonly DesiredChannel[];
}

/** A channel takes about a hundred bytes. */
export const MAX_FILE_BYTES = 4 * 1024 * 1024;
const MAX_DOMAINS = 8192;

/** Throws `usage-invalid` that names `file` and the place in it. */
export function parseDesiredFile(text: string, file: string): DesiredDomain[] {
  try {
    return parseDomains(parseJson(text));
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ChannelError('usage-invalid', `${file}: ${error.message}`, { file, pointer: error.pointer });
  }
}

function parseJson(text: string): unknown {
  if (Buffer.byteLength(text) > MAX_FILE_BYTES) {
    throw new ShapeError('', `it has more than ${MAX_FILE_BYTES} bytes`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ShapeError('', `it is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parseDomains(data: unknown): DesiredDomain[] {
  const { domains } = object(data, ['domains'], '');
  if (domains === undefined) throw new ShapeError('', "it has no 'domains'");
  const entries = Object.entries(object(domains, undefined, '/domains'));
  if (entries.length > MAX_DOMAINS) {
    throw new ShapeError('/domains', `there are ${entries.length}, limit ${MAX_DOMAINS}`);
  }
  const found = entries.map(([who, channels]) => {
    const at = `/domains${pointerStep(who)}`;
    checkDomainName(who, at);
    // An id is another domain's after the next reboot.
    if (/^\d{1,5}$/.test(who)) throw new ShapeError(at, 'a domain is given by its name or uuid, not by its id');
    return { who, at, channels: parseChannels(channels, at) };
  });
  checkPaths(found);
  return found.map(({ who, channels }) => ({ who, channels }));
}

/** Two servers at one path steal it from each other, whatever domains they serve. */
function checkPaths(domains: readonly (DesiredDomain & { readonly at: string })[]): void {
  const owners = new Map<string, string>();
  for (const { at, channels } of domains) {
    for (const [index, { spec }] of channels.entries()) {
      if (spec.path === undefined) continue;
      const owner = owners.get(spec.path);
      if (owner !== undefined) throw new ShapeError(`${at}/${index}/path`, `${owner} has the same path`);
      owners.set(spec.path, `${at}/${index}`);
    }
  }
}
