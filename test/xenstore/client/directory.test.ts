import { describe, expect, it } from 'vitest';
import { MAX_DIRECTORY_RESTARTS, readLongDirectory } from '../../../xenstore/client/directory.js';
import { XenstoreError } from '../../../xenstore/index.js';

const TOO_BIG = new XenstoreError('E2BIG', 'too big');

/** Answers like C xenstored (xen:tools/xenstored/core.c, send_directory_part), a few names at a time. */
function directoryOf(state: () => { generation: number; names: readonly string[] }, partBytes = 10) {
  const offsets: number[] = [];
  const ask = async (offset: number): Promise<Buffer> => {
    offsets.push(offset);
    const { generation, names } = state();
    const all = names.map((name) => `${name}\0`).join('');
    let end = offset;
    while (end < all.length) {
      const next = all.indexOf('\0', end) + 1;
      if (next - offset > partBytes) break;
      end = next;
    }
    return Buffer.from(`${generation}\0${all.slice(offset, end)}${end === all.length ? '\0' : ''}`);
  };
  return { ask, offsets };
}

describe('readLongDirectory', () => {
  it('joins the parts', async () => {
    const names = ['one', 'two', 'three', 'four', 'fivefive'];
    const { ask, offsets } = directoryOf(() => ({ generation: 5, names }));
    expect(await readLongDirectory('/d', ask, TOO_BIG)).toEqual(names);
    expect(offsets).toEqual([0, 8, 14, 19]);
  });

  it('reads a directory that has become empty', async () => {
    const { ask } = directoryOf(() => ({ generation: 5, names: [] }));
    expect(await readLongDirectory('/d', ask, TOO_BIG)).toEqual([]);
  });

  it('starts over when the children change, and never mixes two states', async () => {
    let reads = 0;
    const before = ['aaaaaaa', 'bbbbbbb', 'ccccccc'];
    const after = ['ddddddd', 'eeeeeee'];
    const { ask } = directoryOf(() =>
      ++reads <= 2 ? { generation: 1, names: before } : { generation: 2, names: after },
    );
    expect(await readLongDirectory('/d', ask, TOO_BIG)).toEqual(after);
  });

  it('gives up on a directory that changes all the time', async () => {
    let generation = 0;
    const { ask, offsets } = directoryOf(() => ({ generation: ++generation, names: ['aaaaaaa', 'bbbbbbb'] }));
    await expect(readLongDirectory('/d', ask, TOO_BIG)).rejects.toMatchObject({ code: 'conflict', path: '/d' });
    expect(offsets).toHaveLength(2 * (MAX_DIRECTORY_RESTARTS + 1));
  });

  it('reports E2BIG for a daemon without DIRECTORY_PART', async () => {
    const ask = () => Promise.reject(new XenstoreError('ENOSYS', 'unknown operation'));
    await expect(readLongDirectory('/d', ask, TOO_BIG)).rejects.toBe(TOO_BIG);
  });

  it('passes other errors on', async () => {
    const error = new XenstoreError('EACCES', 'no');
    await expect(readLongDirectory('/d', () => Promise.reject(error), TOO_BIG)).rejects.toBe(error);
  });

  it.each(['', '5', '5\0', '\0name\0'])(
    'throws protocol on the useless part %j instead of asking for ever',
    async (part) => {
      const ask = async (): Promise<Buffer> => Buffer.from(part);
      await expect(readLongDirectory('/d', ask, TOO_BIG)).rejects.toMatchObject({ code: 'protocol' });
    },
  );
});
