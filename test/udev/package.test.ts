/** The files of the guest package: what install.sh puts where, and whether systemd and the shells accept it. */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';

const run = promisify(execFile);
const UDEV = fileURLToPath(new URL('../../udev/', import.meta.url));

function temporary(): string {
  const directory = mkdtempSync(join(tmpdir(), 'xenchannel-package-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function files(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length))
    .sort();
}

const install = (env: Record<string, string>, ...parameters: string[]) =>
  run('sh', [join(UDEV, 'install.sh'), ...parameters], { env: { PATH: process.env['PATH'], ...env } });

describe('install.sh', () => {
  it('installs below DESTDIR and PREFIX, with no placeholder left', async () => {
    const destdir = temporary();
    await install({ DESTDIR: destdir, PREFIX: '/opt/x' });
    expect(files(destdir)).toEqual([
      '/opt/x/lib/systemd/system/qemu-guest-agent.service.d/xenchannel.conf',
      '/opt/x/lib/systemd/system/xenchannel-agent.service',
      '/opt/x/lib/systemd/system/xenchannel-link.service',
      '/opt/x/lib/systemd/system/xenchannel@.service',
      '/opt/x/lib/udev/rules.d/60-xenchannel.rules',
      '/opt/x/lib/xenchannel/xenchannel-link',
    ]);
    for (const file of files(destdir)) expect(readFileSync(destdir + file, 'utf8')).not.toMatch(/@[A-Z]+@/);
    expect(statSync(join(destdir, 'opt/x/lib/xenchannel/xenchannel-link')).mode & 0o777).toBe(0o755);
    expect(readFileSync(join(destdir, 'opt/x/lib/systemd/system/xenchannel-link.service'), 'utf8')).toContain(
      'ExecStart=/opt/x/lib/xenchannel/xenchannel-link run\n',
    );
  });

  it('installs twice without harm, and removes all of it again', async () => {
    const destdir = temporary();
    await install({ DESTDIR: destdir });
    await install({ DESTDIR: destdir });
    await install({ DESTDIR: destdir }, '--uninstall');
    expect(files(destdir)).toEqual([]);
  });

  it('refuses what it does not know', async () => {
    await expect(install({ DESTDIR: temporary() }, '--remove')).rejects.toMatchObject({ code: 2 });
  });
});

describe('the systemd units', () => {
  it('are accepted by systemd', async () => {
    const prefix = temporary();
    mkdirSync(join(prefix, 'bin'));
    writeFileSync(join(prefix, 'bin/xenchannel'), '');
    chmodSync(join(prefix, 'bin/xenchannel'), 0o755);
    await install({ DESTDIR: '/', PREFIX: prefix });
    const units = join(prefix, 'lib/systemd/system');
    // Debian's own unit, with our drop-in beside it.
    symlinkSync('/lib/systemd/system/qemu-guest-agent.service', join(units, 'qemu-guest-agent.service'));
    const names = ['xenchannel-agent.service', 'xenchannel-link.service', 'qemu-guest-agent.service'];
    const instance = join(units, 'xenchannel@sys-devices-console\\x2d1.service');
    symlinkSync('xenchannel@.service', instance);
    const { stdout, stderr } = await run(
      'systemd-analyze',
      ['verify', '--man=no', ...names.map((name) => join(units, name)), instance],
      { env: { ...process.env, SYSTEMD_UNIT_PATH: `${units}:/lib/systemd/system` } },
    );
    const said = `${stdout}${stderr}`
      .split('\n')
      .filter((line) => line.includes('xenchannel') || line.includes('guest'));
    expect(said).toEqual([]);
  });

  it('let Node compile, and leave the terminals where they are', () => {
    const unit = readFileSync(join(UDEV, 'xenchannel-agent.service'), 'utf8');
    expect(unit).not.toMatch(/^(MemoryDenyWriteExecute|PrivateDevices|PrivateUsers)=yes/m);
    expect(unit).toMatch(/^RuntimeDirectoryPreserve=yes$/m); // the record of lines in use
  });
});

describe('the rules', () => {
  /** Continued lines joined, comments and blank lines gone. */
  const rules = readFileSync(join(UDEV, '60-xenchannel.rules'), 'utf8')
    .replaceAll('\\\n', '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));

  it('consist of nothing but what udev knows', () => {
    const token = /^(ACTION|SUBSYSTEM|KERNEL|TEST|RESULT|PROGRAM|TAG|LABEL|GOTO|ENV\{[A-Z_]+\})(==|!=|\+=|=)"[^"]*"$/;
    const wrong = rules.flatMap((rule) => rule.split(/,\s+/)).filter((part) => !token.test(part.trim()));
    expect(wrong).toEqual([]);
  });

  it('jump only to labels that come later', () => {
    for (const [at, rule] of rules.entries()) {
      const label = /GOTO="([^"]+)"/.exec(rule)?.[1];
      if (label !== undefined) expect(rules.slice(at + 1)).toContain(`LABEL="${label}"`);
    }
  });

  it('start nothing from udev but two small programs that end at once', () => {
    const programs = rules.flatMap((rule) =>
      [...rule.matchAll(/(?:PROGRAM|RUN|IMPORT)[^"]*"(\S+)/g)].map(([, path]) => path),
    );
    expect(programs).toEqual(['/usr/bin/xenstore-read', '/bin/grep']);
  });

  it('start only units that the package installs', () => {
    const wanted = rules.flatMap((rule) => /SYSTEMD_WANTS}\+="([^"]+)"/.exec(rule)?.[1]?.split(' ') ?? []);
    const known = [...readdirSync(UDEV), 'qemu-guest-agent.service'];
    expect(wanted.length).toBeGreaterThan(0);
    for (const unit of wanted) expect(known).toContain(unit);
  });
});

describe('the drop-in of qemu-guest-agent', () => {
  /** What systemd would run, below another root and with echo in the place of qemu-ga. */
  function command(root: string): string {
    const text = readFileSync(join(UDEV, 'qemu-guest-agent.service.d/xenchannel.conf'), 'utf8');
    const body = /^ExecStart=-\/bin\/sh -c '(.*)'$/m.exec(text)?.[1] ?? 'exit 99';
    return body
      .replaceAll('/usr/sbin/qemu-ga', 'echo')
      .replaceAll('@LIBEXECDIR@/', UDEV)
      .replaceAll(' 30;', ' 0;')
      .replaceAll('/dev/', `${root}/dev/`);
  }
  const start = async (root: string): Promise<string> =>
    (await run('sh', ['-c', command(root)], { env: { PATH: process.env['PATH'], XENCHANNEL_ROOT: root } })).stdout;

  it('opens the link on Xen', async () => {
    const root = temporary();
    mkdirSync(join(root, 'dev/xen'), { recursive: true });
    mkdirSync(join(root, 'dev/xenchannel'));
    writeFileSync(join(root, 'dev/xen/xenbus'), '');
    symlinkSync('/dev/null', join(root, 'dev/xenchannel/org.qemu.guest_agent.0'));
    expect(await start(root)).toBe(`--method=isa-serial --path=${root}/dev/xenchannel/org.qemu.guest_agent.0\n`);
  });

  it('changes nothing elsewhere, and nothing without the channel', async () => {
    const root = temporary();
    mkdirSync(join(root, 'dev/xen'), { recursive: true });
    expect(await start(root)).toBe('\n');
    writeFileSync(join(root, 'dev/xen/xenbus'), '');
    expect(await start(root)).toBe('\n');
  });
});
