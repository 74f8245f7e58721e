/** The units of dom0: what install.sh puts where, and whether systemd accepts it. */
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../support/temp-directory.js';

const run = promisify(execFile);
const DOM0 = fileURLToPath(new URL('../../scripts/dom0/', import.meta.url));
const UNITS = ['xenchannel-daemon.service', 'xenchannel-daemon.socket'];

const install = (env: Record<string, string>, ...parameters: string[]) =>
  run('sh', [join(DOM0, 'install.sh'), ...parameters], { env: { PATH: process.env['PATH'], ...env } });

describe('the units of dom0', () => {
  it('are installed with no placeholder left, and removed again', async () => {
    const root = temporaryDirectory();
    await install({ DESTDIR: root, BINDIR: '/opt/bin' });
    const units = join(root, 'usr/lib/systemd/system');
    expect(readdirSync(units).sort()).toEqual(UNITS);
    const service = readFileSync(join(units, 'xenchannel-daemon.service'), 'utf8');
    expect(service).toContain('ExecStart=/opt/bin/xenchannel daemon\n');
    expect(service).not.toMatch(/@[A-Z]+@/);
    await install({ DESTDIR: root }, '--uninstall');
    expect(readdirSync(units)).toEqual([]);
  });

  it('are what systemd understands', async () => {
    const root = temporaryDirectory();
    const bin = join(root, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'xenchannel'), '#!/bin/sh\n');
    chmodSync(join(bin, 'xenchannel'), 0o755);
    await install({ DESTDIR: root, BINDIR: bin });
    const units = join(root, 'usr/lib/systemd/system');
    const { stdout, stderr } = await run(
      'systemd-analyze',
      ['verify', '--man=no', ...UNITS.map((unit) => join(units, unit))],
      {
        env: { ...process.env, SYSTEMD_UNIT_PATH: `${units}:/lib/systemd/system` },
      },
    );
    expect(`${stdout}${stderr}`.split('\n').filter((line) => line.includes('xenchannel'))).toEqual([]);
  });

  it('come after what starts xenstored, on Debian too, and give a slow start time', () => {
    const service = readFileSync(join(DOM0, 'xenchannel-daemon.service'), 'utf8');
    expect(service).toMatch(/^After=.*\bxenstored\.service xen\.service$/m);
    expect(service).toMatch(/^TimeoutStartSec=600$/m);
  });

  it('keep what the next daemon goes on with, restart at once, and let Node compile', () => {
    const service = readFileSync(join(DOM0, 'xenchannel-daemon.service'), 'utf8');
    for (const line of ['RuntimeDirectoryPreserve=yes', 'Restart=always', 'RestartSec=0', 'StartLimitIntervalSec=0']) {
      expect(service.split('\n')).toContain(line);
    }
    expect(service).not.toMatch(/^MemoryDenyWriteExecute=yes/m);
    expect(readFileSync(join(DOM0, 'xenchannel-daemon.socket'), 'utf8')).toContain('SocketMode=0660');
  });
});
