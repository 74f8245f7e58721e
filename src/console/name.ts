/**
 * Channel names: which ones we hand out, and which ones we believe. A name is a xenstore *value* and a link name in
 * the guest, never a xenstore path element (a dot is illegal there).
 */
import { ChannelError } from '../base/errors.js';

declare const checked: unique symbol;
/** A name that passed `parseChannelName`: safe as a file name in any directory. */
export type ChannelName = string & { readonly [checked]: true };

export const MAX_NAME_BYTES = 255;

const ALLOWED = /^[A-Za-z0-9._-]+$/;

/** Why these bytes are no acceptable name, or undefined. The reason never contains the bytes themselves. */
export function channelNameProblem(name: string | Uint8Array): string | undefined {
  const bytes = typeof name === 'string' ? Buffer.byteLength(name) : name.length;
  if (bytes === 0) return 'it is empty';
  if (bytes > MAX_NAME_BYTES) return `it has ${bytes} bytes, the limit is ${MAX_NAME_BYTES}`;
  const text = typeof name === 'string' ? name : Buffer.from(name).toString('latin1');
  if (text.includes('\0')) return 'it contains a NUL byte';
  if (text.includes('\n')) return 'it contains a newline';
  if (text.includes('/')) return "it contains '/'";
  if (text.startsWith('.')) return 'it begins with a dot';
  if (!ALLOWED.test(text)) return 'only letters, digits, dot, underscore and hyphen are allowed';
  return undefined;
}

/** Throws ChannelError `name-illegal` with the reason. */
export function parseChannelName(name: string | Uint8Array): ChannelName {
  const problem = channelNameProblem(name);
  const text = typeof name === 'string' ? name : Buffer.from(name).toString('latin1');
  if (problem !== undefined) {
    throw new ChannelError('name-illegal', `channel name ${printable(text)} is not allowed: ${problem}`, { problem });
  }
  return text as ChannelName;
}

/** A hostile string for a message or a log line: quoted, plain ASCII, cut after `limit` characters. */
export function printable(text: string, limit = 40): string {
  // JSON leaves DEL, C1 controls (0x9b begins a terminal's escape sequence) and bidirectional marks as they are.
  const escaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  const quoted = JSON.stringify(text.slice(0, limit)).replace(/[\u007f-\uffff]/g, escaped);
  return text.length > limit ? `${quoted}...` : quoted;
}
