import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { makeFifo } from '../../src/sys/fifo.js';
import { throughLibc, throughNode, type WriteCall, type Written } from '../../src/sys/write.js';
import { temporaryDirectory } from '../support/temp-directory.js';

/** A pipe with both ends open. */
function pipe(): { readEnd: number; writeEnd: number } {
  const path = join(temporaryDirectory(), 'pipe');
  makeFifo(path);
  const readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writeEnd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  onTestFinished(() => closeSync(writeEnd));
  return { readEnd, writeEnd };
}

const CALLS: readonly (readonly [string, WriteCall | undefined])[] = [
  ['libc', throughLibc()],
  ['Node', throughNode],
];

describe.each(CALLS)('a write through %s', (_name, call) => {
  const write = (fd: number, bytes: Uint8Array): Written => {
    if (call === undefined) throw new Error('koffi is not installed');
    return call(fd, bytes);
  };

  it('writes the given view and nothing else', () => {
    const { readEnd, writeEnd } = pipe();
    expect(write(writeEnd, Buffer.from('abcdef').subarray(2, 5))).toBe(3);
    const target = Buffer.alloc(16);
    expect(target.toString('latin1', 0, readSync(readEnd, target))).toBe('cde');
    closeSync(readEnd);
  });

  it('takes what there is room for, and then says that it is busy', () => {
    const { readEnd, writeEnd } = pipe();
    const much = Buffer.alloc(1024 * 1024, 'x');
    const taken = write(writeEnd, much);
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThan(much.length);
    expect(write(writeEnd, much)).toBe('busy');
    closeSync(readEnd);
  });

  it('is refused when nobody can read any more, and on a descriptor that is none', () => {
    const { readEnd, writeEnd } = pipe();
    closeSync(readEnd);
    expect(write(writeEnd, Buffer.from('abc'))).toBe('refused');
    expect(write(-1, Buffer.alloc(0))).toBe('refused');
  });
});
