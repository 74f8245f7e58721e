import { expect, it } from 'vitest';
import { DirtySet } from '../../src/backend/dirty-set.js';

function start(handle: (key: string) => Promise<void>): DirtySet {
  return new DirtySet({
    parallel: 2,
    handle,
    onFailure: (key, error) => {
      throw new Error(key, { cause: error });
    },
  });
}

it('a burst of additions of one key is handled once', async () => {
  const handled: string[] = [];
  const set = start(async (key) => void handled.push(key));
  for (const key of ['1/1', '1/1', '2/1', '1/1']) set.add(key);
  await set.settled();
  expect(handled).toEqual(['1/1', '2/1']);
});

it('a key that is added while it is handled is handled again', async () => {
  const handled: string[] = [];
  const set = start(async (key) => {
    handled.push(key);
    if (handled.length === 1) set.add(key);
    await undefined;
  });
  set.add('1/1');
  await set.settled();
  expect(handled).toEqual(['1/1', '1/1']);
});

it('what waits when it is stopped is dropped', async () => {
  const handled: string[] = [];
  const set = start(async (key) => void handled.push(key));
  set.add('1/1');
  set.stop();
  await set.settled();
  expect(handled).toEqual([]);
});
