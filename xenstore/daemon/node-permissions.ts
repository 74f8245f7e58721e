/**
 * The permissions of one node as the daemon keeps them: immutable, shared by all nodes that inherited them. Differs from
 * ../permissions.ts in what only a daemon knows: entries of domains that died are kept and ignored.
 * Source: xen:tools/xenstore/xs_lib.c (xs_strings_to_perms, xs_perm_to_string).
 */

export const READ = 1;
export const WRITE = 2;
export const OWNER = 4;

export interface PermissionEntry {
  /** READ | WRITE. */
  readonly access: number;
  /** Unsigned 32 bit: the daemon stores what strtol gave it. */
  readonly domid: number;
  /** The domain was gone when the node was last written: a later domain with its number gets nothing. */
  readonly ignored: boolean;
}

const LETTERS = ['n', 'r', 'w', 'b'] as const;
const MAX_MEMO = 64;

export class NodePermissions {
  readonly entries: readonly PermissionEntry[];
  readonly owner: number;
  /** Access of every domain that is neither owner nor listed. */
  readonly others: number;
  readonly length: number;
  #ownedBy: Map<number, NodePermissions> | undefined;

  constructor(entries: readonly PermissionEntry[]) {
    const [first] = entries;
    if (first === undefined) throw new RangeError('a node has at least one permission');
    this.entries = entries;
    this.owner = first.domid;
    this.others = first.access;
    this.length = entries.length;
  }

  /** What a child inherits when `domid` creates it; the same object each time, so that thousands of nodes share it. */
  ownedBy(domid: number): NodePermissions {
    if (domid === this.owner) return this;
    const known = this.#ownedBy?.get(domid);
    if (known !== undefined) return known;
    const [first, ...rest] = this.entries;
    const made = new NodePermissions([{ access: first?.access ?? 0, domid, ignored: false }, ...rest]);
    if (this.#ownedBy === undefined || this.#ownedBy.size >= MAX_MEMO) this.#ownedBy = new Map();
    this.#ownedBy.set(domid, made);
    return made;
  }

  /** `n0|r5|`, each entry followed by NUL. */
  toWire(): string {
    let text = '';
    for (const { access, domid } of this.entries) text += `${LETTERS[access & 3]}${domid | 0}\0`;
    return text;
  }
}

/** Nobody but dom0. */
export const PRIVATE_TO_DOM0 = new NodePermissions([{ access: 0, domid: 0, ignored: false }]);

/** The entries of a SET_PERMS request, or undefined if one is malformed. */
export function parseEntries(texts: readonly string[]): PermissionEntry[] | undefined {
  const entries: PermissionEntry[] = [];
  for (const text of texts) {
    const access = LETTERS.indexOf(text.charAt(0) as (typeof LETTERS)[number]);
    const domid = parseCInteger(text.slice(1));
    if (access < 0 || domid === undefined) return undefined;
    entries.push({ access, domid, ignored: false });
  }
  return entries;
}

/** What strtol(text, &end, 0) accepts up to the end, cut to 32 bits. */
function parseCInteger(text: string): number | undefined {
  const match = /^[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/.exec(text);
  const digits = match?.[2];
  if (digits === undefined) return undefined;
  const octal = /^0[0-7]/.test(digits);
  const magnitude = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  const value = match?.[1] === '-' ? -magnitude : magnitude;
  const longMax = 2n ** 63n - 1n;
  const clamped = value > longMax ? longMax : value < -longMax - 1n ? -longMax - 1n : value;
  return Number(BigInt.asUintN(32, clamped));
}
