/**
 * How oxenstored takes payloads apart: paths, numbers, permissions. Differs from the C daemon in nearly every corner.
 * Source: xen:tools/ocaml/xenstored/utils.ml (path_validate), process.ml (split, c_int_of_string), perms.ml.
 */
import { NodePermissions, type PermissionEntry, READ, WRITE } from '../node-permissions.js';
import { refusal } from './refusal.js';

/** The names from the root down. A special name such as `@releaseDomain` is a node of that name below the root. */
export type Parts = readonly string[];

const NAME = /^[A-Za-z0-9\-_@]+$/;
const DOMAIN_PREFIX = /^\/local\/domain\/[+-]?\d+\//;
/** No request takes more strings. */
const MAX_WORDS = 8;
const INTEGER = /^([+-]?)(0[xX][0-9a-fA-F][0-9a-fA-F_]*|0[oO][0-7][0-7_]*|0[bB][01][01_]*|(?:0[uU])?[0-9][0-9_]*)$/;
const LETTERS = new Map([
  ['n', 0],
  ['r', READ],
  ['w', WRITE],
  ['b', READ | WRITE],
]);

/** At most `limit` strings, the last of which may contain NULs. */
export function split(data: string, limit = MAX_WORDS): string[] {
  const words: string[] = [];
  let at = 0;
  while (words.length < limit - 1) {
    const nul = data.indexOf('\0', at);
    if (nul < 0) break;
    words.push(data.slice(at, nul));
    at = nul + 1;
  }
  words.push(data.slice(at));
  return words;
}

/** Throws Refusal EINVAL. */
export function partsOf(absolute: string): Parts {
  if (absolute.startsWith('@')) return [absolute];
  if (absolute === '/') return [];
  const [first, ...names] = absolute.split('/');
  if (first !== '' || !names.every((name) => NAME.test(name))) throw refusal('EINVAL');
  return names;
}

export function isAbsolute(text: string): boolean {
  return text.startsWith('/') || text.startsWith('@');
}

/** The path that a request names; `base` ends with a slash. Throws Refusal EINVAL. */
export function resolve(text: string, base: string, limit: number): Parts {
  if (text === '') throw refusal('EINVAL');
  const absolute = isAbsolute(text) ? text : base + text;
  const prefix = DOMAIN_PREFIX.exec(absolute)?.[0].length ?? 0;
  if (absolute.length - prefix > limit) throw refusal('EINVAL');
  return partsOf(absolute);
}

/** What int_of_string accepts: 63 bits, hexadecimal, octal and binary with a prefix, underscores. Throws Refusal EINVAL. */
export function integer(text: string): number {
  const match = INTEGER.exec(text);
  if (match === null) throw refusal('EINVAL');
  const [, sign, digits = ''] = match;
  const plain = digits.replaceAll('_', '').replace(/^0[uU]/, '');
  const magnitude = BigInt(plain);
  const based = /^0[xXoObB]/.test(plain);
  const limit = based ? 2n ** 63n - 1n : sign === '-' ? 2n ** 62n : 2n ** 62n - 1n;
  if (magnitude > limit) throw refusal('EINVAL');
  return Number(BigInt.asIntN(63, sign === '-' ? -magnitude : magnitude));
}

/** The first run of digits anywhere in the text; 0 without one. */
export function looseInteger(text: string): number {
  return Number(/\d+/.exec(text)?.[0] ?? 0);
}

/** `n0|r5|`, with the NUL at the end. Throws Refusal EINVAL. */
export function parsePermissions(text: string): NodePermissions {
  const words = text.split('\0').slice(0, -1);
  const entries = words.map((word): PermissionEntry => {
    const access = LETTERS.get(word.charAt(0));
    if (access === undefined) throw refusal('EINVAL');
    return { access, domid: integer(word.slice(1)), ignored: false };
  });
  if (entries.length === 0) throw refusal('EINVAL');
  return new NodePermissions(entries);
}

/** Domain numbers are printed as unsigned 63 bit integers, whatever they are. */
export function permissionText(permissions: NodePermissions): string {
  return permissions.entries.map(({ access, domid }) => `${'nrwb'[access & 3]}${unsigned(domid)}\0`).join('');
}

function unsigned(value: number): string {
  return value >= 0 ? String(value) : BigInt.asUintN(63, BigInt(value)).toString();
}
