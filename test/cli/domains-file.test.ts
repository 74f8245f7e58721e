import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';
import { cli, start } from './harness.js';

function file(text: string): string {
  const path = join(temporaryDirectory(), 'domains.json');
  writeFileSync(path, text);
  return path;
}

const UUID = '11111111-2222-3333-4444-555555555555';

describe('simulate --domains FILE', () => {
  it('starts the domains it describes, with the channels of their configuration', async () => {
    const root = join(temporaryDirectory('xc-'), 'host');
    const specs = [
      {
        name: 'db1',
        uuid: UUID,
        domid: 9,
        channels: [
          { name: 'org.example.a', path: '/run/a.sock' },
          { name: 'b', connection: 'pty' },
        ],
      },
      { name: 'bare', agent: false },
      {},
    ];
    const running = start({}, ['simulate', '--domains', file(JSON.stringify(specs)), '--root', root]);
    await until('it is ready', () => running.out.text.includes('ready'), 15_000);
    expect(running.out.text).toContain('domain 9 (db1), 10 (bare), 11 (guest11)');
    const env = { ...process.env, XENSTORED_PATH: join(root, 'xenstored.sock') };
    const { stdout } = await promisify(execFile)('xenstore-ls', ['-f', '/local/domain/9'], { env });
    expect(stdout).toContain(`/local/domain/9/vm = "/vm/${UUID}"\n`);
    expect(stdout).toContain('/local/domain/9/device/console/1/name = "org.example.a"\n');
    expect(stdout).toContain('/local/domain/9/device/console/2/output = "pty"\n');
    running.interrupt();
    expect(await running.done).toBe(0);
  }, 30_000);

  it.each([
    ['nonsense', 'is not valid JSON'],
    ['{}', 'it must hold a list of domains'],
    ['[1]', 'domain 1 is no object'],
    ['[{}, {"nam": "x"}]', "domain 2 has 'nam', which is none of name, uuid, domid"],
    ['[{"name": ""}]', 'the name of domain 1 cannot be ""'],
    ['[{"uuid": "x"}]', 'the uuid of domain 1 cannot be "x"'],
    ['[{"domid": 0}]', 'the domid of domain 1 cannot be 0'],
    ['[{"domid": 40000}]', 'the domid of domain 1 cannot be 40000'],
    ['[{"domid": 4}, {"domid": 4}]', 'two domains have the domid 4'],
    ['[{"agent": "yes"}]', 'the agent of domain 1 cannot be "yes"'],
    ['[{"kernelVersion": "2.6"}]', 'the kernelVersion of domain 1 cannot be "2.6"'],
    ['[{"channels": [{}]}]', 'the name of channel 1 of domain 1 cannot be undefined'],
    ['[{"channels": [{"name": "../x"}]}]', `the name "../x" of channel 1 of domain 1 is not allowed: it contains '/'`],
    [
      '[{"channels": [{"name": "x", "connection": "null"}]}]',
      'the connection of channel 1 of domain 1 cannot be "null"',
    ],
    ['[{"channels": [{"name": "x", "path": "relative"}]}]', 'the path of channel 1 of domain 1 cannot be "relative"'],
  ])('refuses %s and says why', async (text, why) => {
    const { code, err } = await cli({}, 'simulate', '--domains', file(text));
    expect(code).toBe(2);
    expect(err).toContain(why);
  });

  it('says that the file is missing', async () => {
    expect(await cli({}, 'simulate', '--domains', '/absent/domains.json')).toMatchObject({
      code: 8,
      err: expect.stringContaining('ENOENT'),
    });
  });
});
