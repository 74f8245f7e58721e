/**
 * Node permissions in their wire form (`n5`, `r0`, `b3`) and as data. Who may do what is decided in daemon/.
 * Source: xen:docs/misc/xenstore.txt, "Permissions".
 */
import { XenstoreError } from './errors.js';

/** n none, r read, w write, b both. */
export type Access = 'n' | 'r' | 'w' | 'b';

export interface Permission {
  readonly access: Access;
  readonly domid: number;
}

/** Entry 0 is the owner and the access of everyone who is not listed; the others are single domains. */
export type Permissions = readonly [owner: Permission, ...others: Permission[]];

export function formatPermission({ access, domid }: Permission): string {
  return `${access}${domid}`;
}

/** Parses one `<n|r|w|b><domid>`. Throws XenstoreError EINVAL. */
export function parsePermission(text: string): Permission {
  const match = /^([nrwb])(\d{1,5})$/.exec(text);
  const domid = Number(match?.[2]);
  if (match === null || domid > 0xffff) {
    throw new XenstoreError('EINVAL', `'${text.slice(0, 40)}' is no permission: one of n r w b and a domain id is`);
  }
  return { access: match[1] as Access, domid };
}

/** Parses `n5,r0` style lists as people write them. Throws XenstoreError EINVAL. */
export function permissions(...texts: [string, ...string[]]): Permissions {
  const [owner, ...others] = texts.map(parsePermission);
  return [owner as Permission, ...others];
}
