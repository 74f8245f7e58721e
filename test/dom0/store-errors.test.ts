import { mkdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ChannelError } from '../../src/base/errors.js';
import { toChannelError } from '../../src/dom0/store-errors.js';
import { XenstoreError, type XenstoreErrorCode } from '../../xenstore/index.js';

describe('an error of the operating system', () => {
  it.each([
    ['ENOTDIR', () => mkdirSync('/dev/null/x'), 'system-call-failed', 8],
    [
      'EACCES',
      () => Object.assign(new Error('EACCES: no, mkdir'), { code: 'EACCES', syscall: 'mkdir' }),
      'permission-denied',
      5,
    ],
  ])('%s keeps its words and gets a code', (errno, make, code, exitCode) => {
    const error = toChannelError(thrownBy(make));
    expect([error.code, error.exitCode, error.details['errno']]).toEqual([code, exitCode, errno]);
    expect(error.message).toContain(errno);
  });
});

function thrownBy(make: () => unknown): unknown {
  try {
    return make();
  } catch (error) {
    return error;
  }
}

describe('an error of xenstore', () => {
  it.each<[XenstoreErrorCode, string, number]>([
    ['EACCES', 'permission-denied', 5],
    ['EPERM', 'permission-denied', 5],
    ['unreachable', 'store-unreachable', 8],
    ['not-permitted', 'permission-denied', 5],
    ['disconnected', 'store-unreachable', 8],
    ['conflict', 'store-conflict', 4],
    ['timeout', 'wait-timeout', 6],
    ['closed', 'interrupted', 130],
    ['ENOTEMPTY', 'internal-bug', 1],
  ])('%s becomes %s and exits with %d', (from, code, exitCode) => {
    const cause = new XenstoreError(from, 'what happened');
    const error = toChannelError(cause);
    expect([error.code, error.exitCode]).toEqual([code, exitCode]);
    expect(error.message).toContain('what happened');
    expect(error.cause).toBe(cause);
  });

  it('of our own stays what it is, and anything else is a bug', () => {
    const own = new ChannelError('name-in-use', 'taken');
    expect(toChannelError(own)).toBe(own);
    expect(toChannelError(new TypeError('oops'))).toMatchObject({
      code: 'internal-bug',
      message: 'unexpected error: oops',
    });
    expect(toChannelError('text').message).toBe('unexpected error: text');
  });
});
