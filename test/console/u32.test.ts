import { describe, expect, it } from 'vitest';
import { parseU32 } from '../../src/console/u32.js';

describe('parseU32', () => {
  it.each<[string | undefined, number | undefined]>([
    ['0', 0],
    ['9', 9],
    ['4294967295', 4294967295],
    ['4294967296', undefined],
    ['99999999999', undefined],
    ['-1', undefined],
    ['+1', undefined],
    ['01', undefined],
    ['1.0', undefined],
    ['1e3', undefined],
    ['0x10', undefined],
    [' 1', undefined],
    ['1\n', undefined],
    ['1\0', undefined],
    ['٣', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('reads %j as %s', (text, value) => {
    expect(parseU32(text)).toBe(value);
  });
});
