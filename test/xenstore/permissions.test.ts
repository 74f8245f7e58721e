import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Access, formatPermission, type Permission, parsePermission, permissions } from '../../xenstore/index.js';

const CASES: ReadonlyArray<[text: string, permission: Permission]> = [
  ['n0', { access: 'n', domid: 0 }],
  ['r5', { access: 'r', domid: 5 }],
  ['w65535', { access: 'w', domid: 65535 }],
  ['b32757', { access: 'b', domid: 32757 }],
];

describe.each(CASES)('the permission %s', (text, permission) => {
  it('is parsed', () => expect(parsePermission(text)).toEqual(permission));
  it('is formatted', () => expect(formatPermission(permission)).toBe(text));
});

describe('parsePermission', () => {
  it.each(['', 'n', '5', 'x5', 'r-1', 'r 5', 'r5 ', 'r65536', 'r999999', 'r0x5', 'N0', 'rb5', 'r5\0'])(
    'refuses %j',
    (text) => {
      expect(() => parsePermission(text)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    },
  );

  it('undoes formatPermission', () => {
    const access = fc.constantFrom<Access>('n', 'r', 'w', 'b');
    fc.assert(
      fc.property(access, fc.integer({ min: 0, max: 65535 }), (letter, domid) => {
        const permission = { access: letter, domid };
        expect(parsePermission(formatPermission(permission))).toEqual(permission);
      }),
    );
  });
});

describe('permissions', () => {
  it('makes a list whose first entry is the owner', () => {
    expect(permissions('n5', 'r0', 'b7')).toEqual([
      { access: 'n', domid: 5 },
      { access: 'r', domid: 0 },
      { access: 'b', domid: 7 },
    ]);
  });

  it('refuses a list with one bad entry', () => {
    expect(() => permissions('n5', 'read0')).toThrow("'read0' is no permission: one of n r w b and a domain id is");
  });
});
