/** The manual of the error codes is the table that the errors use. */
import { describe, expect, it } from 'vitest';
import { ERRORS } from '../../src/base/errors.js';
import { cli } from './harness.js';

const ask = (...args: string[]) => cli({}, 'errors', ...args);

describe('xenchannel errors', () => {
  it('has a line for every code, with its exit code and its meaning', async () => {
    const { code: status, out } = await ask();
    expect(status).toBe(0);
    for (const [code, { exit, manual }] of Object.entries(ERRORS)) {
      expect(out).toMatch(new RegExp(`^${code} +${exit} +${manual.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`, 'm'));
    }
  });

  it('explains one', async () => {
    expect(await ask('name-in-use')).toMatchObject({
      code: 0,
      out: 'exit 4: The domain already has a channel of this name.\n',
    });
  });

  it('answers programs in JSON', async () => {
    const { out } = await ask('name-in-use', '--json');
    expect(JSON.parse(out)).toEqual({
      errors: [{ code: 'name-in-use', exit: 4, manual: ERRORS['name-in-use'].manual }],
    });
  });

  it('knows no code that there is not', async () => {
    expect(await ask('name-in-us')).toMatchObject({ code: 2, out: '' });
  });
});
