import { expect, it } from 'vitest';
import { NullChardev } from '../../src/chardev/null.js';
import { Recorder } from './recorder.js';

it('a null chardev takes everything and says how much that was', async () => {
  const chardev = new NullChardev();
  expect(chardev.write(Buffer.from('too early'))).toBe(0);
  const events = new Recorder();
  await chardev.open(events);
  await events.untilClients(true);
  expect(chardev.write(Buffer.alloc(5000))).toBe(5000);
  expect(await chardev.close({ tail: Buffer.alloc(7) })).toHaveLength(0);
  expect(chardev.figures()).toEqual({ connected: false, discardedBytes: 5007 });
  expect(chardev.write(Buffer.from('too late'))).toBe(0);
});
