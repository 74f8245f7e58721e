import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { absolutePath, checkPath, pathProblem } from '../../xenstore/index.js';

describe('pathProblem', () => {
  it.each([
    '/',
    '/a',
    '/local/domain/5/device/console/1',
    'device/console/1',
    '@releaseDomain',
    '@introduceDomain',
    '/under_score-dash@at',
  ])('finds nothing wrong with %j', (path) => expect(pathProblem(path)).toBeUndefined());

  it.each([
    ['an absolute path', '/', 3072],
    ['a relative path', '', 2048],
  ])('limits the length of %s', (_name, start, limit) => {
    expect(pathProblem(start.padEnd(limit, 'a'))).toBeUndefined();
    expect(pathProblem(start.padEnd(limit + 1, 'a'))).toBe(`it has ${limit + 1} bytes, the limit is ${limit}`);
  });

  it.each([
    ['', 'it is empty'],
    ['/a//b', 'it contains //'],
    ['//', 'it contains //'],
    ['/a/', 'it ends in /'],
    ['a/', 'it ends in /'],
    ['/org.qemu.guest_agent.0', 'only letters, digits and - / _ @ are allowed'],
    ['/a b', 'only letters, digits and - / _ @ are allowed'],
    ['/a\0b', 'only letters, digits and - / _ @ are allowed'],
    ['/a\n', 'only letters, digits and - / _ @ are allowed'],
    ['/ä', 'only letters, digits and - / _ @ are allowed'],
    ['/a+b', 'only letters, digits and - / _ @ are allowed'],
  ])('says why %j is illegal', (path, problem) => expect(pathProblem(path)).toBe(problem));

  it('finds nothing wrong with any joined legal elements', () => {
    const element = fc.stringMatching(/^[A-Za-z0-9_@-]{1,20}$/);
    fc.assert(
      fc.property(fc.array(element, { minLength: 1, maxLength: 20 }), (elements) => {
        expect(pathProblem(`/${elements.join('/')}`)).toBeUndefined();
      }),
    );
  });

  it('lets no path pass that could end its argument early', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 30 }), (text) => {
        if (pathProblem(text) === undefined) expect(text).toMatch(/^[\x21-\x7e]+$/);
      }),
    );
  });
});

describe('checkPath', () => {
  it('throws EINVAL with the path and the reason', () => {
    expect(() => checkPath('/a.b')).toThrow("'/a.b' is no xenstore path: only letters, digits and - / _ @ are allowed");
    expect(() => checkPath('/a.b')).toThrow(expect.objectContaining({ code: 'EINVAL', path: '/a.b' }));
  });

  it('does not repeat a huge path in its sentence', () => {
    expect(() => checkPath(`/${'a'.repeat(5000)}`)).toThrow(/^'\/a{79}' is no xenstore path/);
  });
});

describe('absolutePath', () => {
  it.each([
    ['device/console', 5, '/local/domain/5/device/console'],
    ['/device', 5, '/device'],
    ['@releaseDomain', 5, '@releaseDomain'],
    ['backend', 0, '/local/domain/0/backend'],
  ])('sees %j of domain %d as %j', (path, domid, expected) => expect(absolutePath(path, domid)).toBe(expected));
});
