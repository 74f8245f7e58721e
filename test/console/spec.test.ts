import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChannelError } from '../../src/base/errors.js';
import { checkDeviceId, lowestFreeDeviceId } from '../../src/console/device-id.js';
import { channelWrites } from '../../src/console/layout.js';
import { channelNameProblem, parseChannelName, printable } from '../../src/console/name.js';
import { type ChannelSpecInput, checkSocketPath, parseChannelSpec } from '../../src/console/spec.js';

function codeOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    if (error instanceof ChannelError) return `${error.code} (${error.exitCode}): ${error.message}`;
    throw error;
  }
  return 'accepted';
}

describe('a channel name', () => {
  it.each([
    ['', 'it is empty'],
    ['a'.repeat(256), 'it has 256 bytes, the limit is 255'],
    ['é'.repeat(128), 'it has 256 bytes, the limit is 255'],
    ['a\0b', 'it contains a NUL byte'],
    ['a\nb', 'it contains a newline'],
    ['../etc', "it contains '/'"],
    ['.hidden', 'it begins with a dot'],
    ['..', 'it begins with a dot'],
    ['a b', 'only letters, digits, dot, underscore and hyphen are allowed'],
    ['a,b', 'only letters, digits, dot, underscore and hyphen are allowed'],
    ['ünï', 'only letters, digits, dot, underscore and hyphen are allowed'],
    ['a%n', 'only letters, digits, dot, underscore and hyphen are allowed'],
  ])('%j is refused', (name, problem) => {
    expect(channelNameProblem(name)).toBe(problem);
    expect(codeOf(() => parseChannelName(name))).toContain(
      `name-illegal (2): channel name ${printable(name)} is not allowed: ${problem}`,
    );
  });

  it.each(['org.qemu.guest_agent.0', 'a', '-', '_x', '0', 'a'.repeat(255)])('%s is accepted', (name) => {
    expect(parseChannelName(name)).toBe(name);
    expect(parseChannelName(Buffer.from(name))).toBe(name);
  });

  it('that is accepted is always a plain file name', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        if (channelNameProblem(bytes) !== undefined) return;
        const name = parseChannelName(bytes);
        expect(name).toMatch(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}$/);
      }),
    );
  });
});

describe('a hostile string', () => {
  it('is printed without a byte that a terminal acts on', () => {
    expect(printable('\x1b[2J\x9b2Jé\u202e"')).toBe('"\\u001b[2J\\u009b2J\\u00e9\\u202e\\""');
    expect(printable('a'.repeat(41))).toBe(`"${'a'.repeat(40)}"...`);
  });
});

describe('a device id', () => {
  it.each([0, -1, 10, 11, 1.5, Number.NaN, 4294967297])('%d is refused', (deviceId) => {
    expect(codeOf(() => checkDeviceId(deviceId))).toBe(
      `device-id-out-of-range (2): device id ${deviceId} is outside 1-9: Linux guests read only the last digit of the id`,
    );
  });
  it.each([1, 2, 3, 4, 5, 6, 7])('%d is accepted without a word', (deviceId) => {
    expect(checkDeviceId(deviceId)).toBeUndefined();
  });
  it.each([8, 9])('%d is accepted with a warning', (deviceId) => {
    expect(checkDeviceId(deviceId)).toMatch(new RegExp(`^device id ${deviceId} is above 7: a Linux guest`));
  });
  it('that is chosen is the lowest of 1 to 7 that nobody has', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 12 })), (list) => {
        const taken = new Set(list);
        const free = [1, 2, 3, 4, 5, 6, 7].find((id) => !taken.has(id));
        if (free !== undefined) expect(lowestFreeDeviceId(taken)).toBe(free);
        else
          expect(codeOf(() => lowestFreeDeviceId(taken))).toMatch(
            /^device-ids-exhausted \(4\): all device ids from 1 to 7 are taken/,
          );
      }),
    );
  });
});

describe('a socket path', () => {
  it.each([
    ['relative/path', "path-illegal (2): socket path 'relative/path' cannot be used: it must be absolute"],
    ['/run/', "path-illegal (2): socket path '/run/' cannot be used: it must name a file"],
    [
      '/run/a,b',
      "path-illegal (2): socket path '/run/a,b' cannot be used: commas and control characters are not allowed",
    ],
    ['', "path-illegal (2): socket path '' cannot be used: it must be absolute"],
  ])('%j is refused', (path, sentence) => {
    expect(codeOf(() => checkSocketPath(path))).toBe(sentence);
  });
  it('of 107 bytes is accepted, of 108 refused with both figures', () => {
    expect(codeOf(() => checkSocketPath(`/${'a'.repeat(106)}`))).toBe('accepted');
    expect(codeOf(() => checkSocketPath(`/${'a'.repeat(107)}`))).toMatch(
      /^path-too-long \(2\): the socket path has 108 bytes, .* at most 107/,
    );
  });
  it('is measured in bytes, not in characters', () => {
    expect(codeOf(() => checkSocketPath(`/${'é'.repeat(54)}`))).toMatch(/has 109 bytes/);
  });
});

describe('a channel spec', () => {
  it('takes the defaults for what is left out', () => {
    expect(parseChannelSpec({ name: 'a' })).toEqual({
      name: 'a',
      connection: 'socket',
      backend: 'native',
      limitBytes: 1048576,
    });
  });
  it('keeps what is given', () => {
    const input = {
      name: 'a',
      connection: 'pty',
      backend: 'native',
      overflow: 'drop-newest',
      speakFirst: true,
      path: '/x',
      deviceId: 3,
      mode: 0o600,
      owner: 'u',
      group: '107',
      limitBytes: 4096,
    };
    expect(parseChannelSpec(input)).toEqual(input);
  });
  it.each<[Partial<ChannelSpecInput>, string]>([
    [{ connection: 'tcp' }, 'usage-invalid (2): connection "tcp" is not known: use socket or pty'],
    [{ backend: 'xen' }, 'usage-invalid (2): backend "xen" is not known: use native or qemu'],
    [{ mode: 0o1777 }, 'usage-invalid (2): mode 01777 is outside 00 to 0777'],
    [{ overflow: 'drop' }, 'usage-invalid (2): overflow "drop" is not known: use drop-oldest or drop-newest'],
    [{ limitBytes: 4095 }, 'usage-invalid (2): limit 4095 is outside 4096 to 1073741824'],
    [{ limitBytes: 2 ** 31 }, 'usage-invalid (2): limit 2147483648 is outside 4096 to 1073741824'],
    [{ owner: 'a b' }, 'usage-invalid (2): owner "a b" is no user or group name'],
    [{ group: '../x' }, 'usage-invalid (2): group "../x" is no user or group name'],
    [{ deviceId: 10 }, 'device-id-out-of-range (2): device id 10 is outside 1-9'],
    [{ path: 'x' }, "path-illegal (2): socket path 'x' cannot be used: it must be absolute"],
  ])('with %j is refused', (input, sentence) => {
    expect(codeOf(() => parseChannelSpec({ name: 'a', ...input }))).toContain(sentence);
  });
});

describe('the other host ends', () => {
  it.each<[Partial<ChannelSpecInput>, string]>([
    [{ connect: '/run/x', path: '/run/y' }, 'leave --path out'],
    [{ connect: '/run/x', connection: 'pty' }, 'cannot connect to a server: it is a pty'],
    [{ connect: true }, 'cannot connect to a server: it has no path'],
    [{ connect: '/run/x', mode: 0o600 }, 'mode would have no effect'],
    [{ connect: 'x' }, 'path-illegal'],
    [{ connect: '/run/x', backend: 'qemu' }, 'QEMU'],
    [{ log: 'x.log' }, 'path-illegal'],
    [{ log: '/var/log/' }, 'path-illegal'],
    [{ log: '/a\nb' }, 'path-illegal'],
    [{ log: '/a', backend: 'qemu' }, 'QEMU'],
    [{ log: '/a', logSize: 4095 }, 'log size 4095 is outside 4096 to 1073741824'],
    [{ log: '/a', logKeep: 101 }, 'log keep 101 is outside 0 to 100'],
    [{ logTimestamps: true }, 'without --log there is no log'],
  ])('are refused as %j', (input, why) => {
    expect(codeOf(() => parseChannelSpec({ name: 'a', ...input }))).toContain(why);
  });

  it('are read again as they were written', () => {
    const spec = parseChannelSpec({ name: 'a', connect: '/run/x', log: '/a', logSize: 8192, logKeep: 0 });
    expect(spec).toMatchObject({ path: '/run/x', connect: true, log: { path: '/a', maxBytes: 8192, keep: 0 } });
    expect(parseChannelSpec(spec)).toEqual(spec);
  });

  it('leave no key in xenstore where they were not asked for', () => {
    const writes = channelWrites({ domid: 1, deviceId: 1, backendDomid: 0 }, parseChannelSpec({ name: 'a' }), '/p');
    expect(writes.filter(({ path }) => /connect$|log/.test(path))).toEqual([]);
    const spec = parseChannelSpec({ name: 'a', connect: '/run/x', log: '/a', logTimestamps: true });
    const keys = channelWrites({ domid: 1, deviceId: 1, backendDomid: 0 }, spec, '/run/x')
      .filter(({ path }) => path.startsWith('/local/domain/0/') && path.includes('xenchannel-'))
      .map(({ path, value }) => `${path.split('/').at(-1)}=${value}`);
    expect(keys).toEqual(['xenchannel-connect=1', 'xenchannel-log=/a', 'xenchannel-log-timestamps=1']);
  });
});
