import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import { parseRecord, recordToJson, ShapeError } from '../../src/dom0/desired.js';
import { DesiredStore, MAX_RECORD_BYTES, recordFileName } from '../../src/dom0/desired-store.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryDirectory } from '../support/temp-directory.js';

const UUID = '01234567-89ab-4def-8123-456789abcdef';
const KEY = { uuid: UUID };
const channel = (input: Partial<ChannelSpecInput> = {}) => ({ spec: parseChannelSpec({ name: 'a', ...input }) });

let directory: string;
let store: DesiredStore;
let file: string;

beforeEach(() => {
  directory = join(temporaryDirectory(), 'state');
  store = new DesiredStore({ directory, clock: systemClock });
  file = join(directory, recordFileName(KEY));
});

function put(text: string, name = recordFileName(KEY), mode = 0o600): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(join(directory, name), text, { mode });
  chmodSync(join(directory, name), mode);
}

const record = (channels: unknown[] = [{ name: 'a' }], domain: unknown = KEY, format: unknown = 1): string =>
  JSON.stringify({ format, domain, channels });

describe('the records', () => {
  it('are none, and no directory is made, until something is recorded', async () => {
    expect(await store.all()).toEqual({ records: [], problems: [] });
    expect(await store.recordsFor({ uuid: UUID, name: 'x' })).toEqual([]);
    expect(await store.forget(KEY, 'a')).toBe(false);
    expect(existsSync(directory)).toBe(false);
  });

  it('hold everything that was asked for, in files that only their owner can use', async () => {
    const full = channel({
      connection: 'socket',
      path: '/run/x',
      deviceId: 3,
      mode: 0o600,
      owner: 'root',
      group: 'kvm',
      limitBytes: 4096,
      overflow: 'drop-newest',
      speakFirst: true,
    });
    const one = { ...full, last: { domid: 7, deviceId: 3 } };
    await store.put(KEY, one, 'db1');
    expect(await store.all()).toEqual({ records: [{ key: KEY, label: 'db1', channels: [one] }], problems: [] });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(readdirSync(directory)).toEqual([recordFileName(KEY)]);
  });

  it('are replaced by channel name, and go with their last channel', async () => {
    await store.put(KEY, channel());
    await store.put(KEY, channel({ name: 'b' }));
    await store.put(KEY, channel({ path: '/run/new' }));
    expect((await store.read(KEY))?.channels.map(({ spec }) => [spec.name, spec.path])).toEqual([
      ['b', undefined],
      ['a', '/run/new'],
    ]);
    expect(await store.forget(KEY, 'a')).toBe(true);
    expect(await store.forget(KEY, 'a')).toBe(false);
    expect(await store.forget(KEY, 'b')).toBe(true);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('are found by uuid and by name, the uuid first; a name may be anything', async () => {
    const name = '../../etc/x\n\u0000';
    await store.put({ name }, channel({ name: 'by.name' }));
    await store.put(KEY, channel());
    const found = await store.recordsFor({ uuid: UUID, name });
    expect(found.map(({ key }) => key)).toEqual([KEY, { name }]);
    expect(readdirSync(directory).every((one) => /^[a-z0-9-]+\.json$/.test(one))).toBe(true);
    expect((await store.all()).problems).toEqual([]);
  });

  it('say where a channel went, but do not bring back one that was forgotten', async () => {
    await store.put(KEY, channel());
    await store.moved(KEY, 'a', { domid: 9, deviceId: 2 });
    expect((await store.read(KEY))?.channels[0]?.last).toEqual({ domid: 9, deviceId: 2 });
    await store.forget(KEY, 'a');
    await store.moved(KEY, 'a', { domid: 10, deviceId: 2 });
    expect(await store.read(KEY)).toBeUndefined();
  });

  it('lose nothing when many write at once', async () => {
    const others = new DesiredStore({ directory, clock: systemClock });
    const names = Array.from({ length: 12 }, (_, index) => `c${index}`);
    await Promise.all(names.map((name, index) => (index % 2 === 0 ? store : others).put(KEY, channel({ name }))));
    expect((await store.read(KEY))?.channels.map(({ spec }) => spec.name).sort()).toEqual([...names].sort());
  });

  it('are limited for each domain', async () => {
    for (let index = 0; index < 16; index++) await store.put(KEY, channel({ name: `c${index}` }));
    await expect(store.put(KEY, channel({ name: 'more' }))).rejects.toMatchObject({ code: 'device-ids-exhausted' });
    await store.put(KEY, channel({ name: 'c3', path: '/run/again' }));
  });
});

describe('a writer that dies', () => {
  it('while it writes leaves the old record, and its half of a file is no obstacle', async () => {
    await store.put(KEY, channel());
    put('{"format": 1, "dom', `${recordFileName(KEY)}.new`);
    expect((await store.all()).problems).toEqual([]);
    expect((await store.read(KEY))?.channels).toHaveLength(1);
    await store.put(KEY, channel({ name: 'b' }));
    expect(readdirSync(directory)).toEqual([recordFileName(KEY)]);
    expect((await store.read(KEY))?.channels).toHaveLength(2);
  });

  it('with the lock does not keep it', async () => {
    const dead = spawn('/bin/true');
    await new Promise((settle) => dead.once('exit', settle));
    put(String(dead.pid), `${recordFileName(KEY)}.lock`);
    await store.put(KEY, channel());
    expect(readdirSync(directory)).toEqual([recordFileName(KEY)]);
  });

  it('is told from one that lives, which is waited for until the limit', async () => {
    const clock = new FakeClock();
    const patient = new DesiredStore({ directory, clock });
    const living = spawn('/bin/sleep', ['60']);
    put(String(living.pid), `${recordFileName(KEY)}.lock`);
    const outcome = patient.put(KEY, channel()).then(
      () => 'written',
      (error: { code: string }) => error.code,
    );
    let over = false;
    void outcome.finally(() => {
      over = true;
    });
    while (!over) {
      clock.advance(100);
      await new Promise((settle) => setImmediate(settle));
    }
    living.kill('SIGKILL');
    expect(await outcome).toBe('state-locked');
    expect(existsSync(file)).toBe(false);
  });
});

describe('a file of the state directory', () => {
  const BAD: ReadonlyArray<[what: string, text: string, why: string]> = [
    ['that is empty', '', 'it is no JSON'],
    ['that was cut', record().slice(0, -3), 'it is no JSON'],
    ['that is a list', '[]', 'it is no object'],
    ['of another format', record([], KEY, 2), '/format: it is 2, and only 1 is known'],
    ['with an unknown key', '{"format":1,"more":1}', '/more: there is no such key; known are format, domain, channels'],
    ['without a domain', record([], {}), '/domain: it has neither a uuid nor a name'],
    ['with a false uuid', record([], { uuid: '../../x' }), '/domain/uuid: "../../x" is no uuid'],
    ['of another domain', record([], { uuid: UUID.replace('0', '1') }), '/domain: it belongs into another file'],
    ['without channels', JSON.stringify({ format: 1, domain: KEY }), '/channels: it is no list'],
    ['with too many', record(new Array(17).fill({ name: 'a' })), '/channels: it has 17 channels, limit 16'],
    ['with a nameless channel', record([{}]), '/channels/0/name: it is missing, not a name'],
    ['with a name twice', record([{ name: 'a' }, { name: 'a' }]), '/channels/1/name: "a" is used twice'],
    [
      'with an illegal name',
      record([{ name: '../x' }]),
      '/channels/0: channel name "../x" is not allowed: it contains \'/\'',
    ],
    [
      'with a relative path',
      record([{ name: 'a', path: 'x' }]),
      "/channels/0: socket path 'x' cannot be used: it must be absolute",
    ],
    ['with a number for a mode', record([{ name: 'a', mode: 432 }]), '/channels/0/mode: it is 432, not a string'],
    [
      'with a false mode',
      record([{ name: 'a', mode: '0999' }]),
      '/channels/0/mode: it is "0999", not an octal mode such as "0660"',
    ],
    ['with a text for an id', record([{ name: 'a', deviceId: '1' }]), '/channels/0/deviceId: it is "1", not a number'],
    [
      'with an id too high',
      record([{ name: 'a', deviceId: 10 }]),
      '/channels/0: device id 10 is outside 1-9: Linux guests read only the last digit of the id',
    ],
    [
      'with an id past all numbers',
      record([{ name: 'a' }]).replace('"a"', '"a","deviceId":1e999'),
      '/channels/0: device id Infinity is outside 1-9: Linux guests read only the last digit of the id',
    ],
    [
      'with a false last place',
      record([{ name: 'a', last: { domid: 1.5, deviceId: 1 } }]),
      '/channels/0/last/domid: 1.5 is no domain id',
    ],
    [
      'with a prototype',
      '{"format":1,"__proto__":{}}',
      '/__proto__: there is no such key; known are format, domain, channels',
    ],
  ];

  it.each(BAD)('%s is refused with its place, and left as it is', async (_what, text, why) => {
    put(text);
    put(record([{ name: 'b' }], { name: 'good' }), recordFileName({ name: 'good' }));
    const { records, problems } = await store.all();
    expect(records.map(({ key }) => key)).toEqual([{ name: 'good' }]);
    expect(problems.map(({ message }) => message)).toEqual([`${file} cannot be used: ${why}; it is left as it is`]);
    for (const doing of [() => store.read(KEY), () => store.put(KEY, channel()), () => store.forget(KEY, 'a')]) {
      await expect(doing()).rejects.toMatchObject({ code: 'state-corrupt' });
    }
    expect(readFileSync(file, 'utf8')).toBe(text);
  });

  it('that is no UTF-8, too long, a link, a directory, a FIFO or open to others is refused', async () => {
    const other = join(temporaryDirectory(), 'other');
    writeFileSync(other, record(), { mode: 0o600 });
    const kinds: ReadonlyArray<[make: () => void, why: string]> = [
      [() => writeFileSync(file, Buffer.from([0x22, 0xff, 0x22]), { mode: 0o600 }), 'it is no UTF-8'],
      [() => put(record() + ' '.repeat(MAX_RECORD_BYTES)), 'limit 65536'],
      [() => symlinkSync(other, file), 'it is no regular file'],
      [() => mkdirSync(file), 'it is no regular file'],
      [() => void execFileSync('mkfifo', ['-m', '600', file]), 'it is no regular file'],
      [() => put(record(), undefined, 0o622), 'others than its owner and root may write it'],
    ];
    mkdirSync(directory, { mode: 0o700 });
    for (const [make, why] of kinds) {
      make();
      await expect(store.read(KEY)).rejects.toThrow(why);
      rmSync(file, { recursive: true });
    }
  });

  it('is not looked at where others may write into the directory', async () => {
    put(record());
    chmodSync(directory, 0o777);
    await expect(store.all()).rejects.toMatchObject({ code: 'state-corrupt' });
    await expect(store.put(KEY, channel({ name: 'b' }))).rejects.toMatchObject({ code: 'state-corrupt' });
  });
});

describe('parseRecord', () => {
  it('throws nothing but ShapeError, whatever JSON it gets', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (data) => {
        try {
          parseRecord(data);
        } catch (error) {
          expect(error).toBeInstanceOf(ShapeError);
        }
      }),
    );
  });

  it('gives back what recordToJson wrote', () => {
    const name = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,30}$/);
    const input = fc.record(
      { name, deviceId: fc.integer({ min: 1, max: 9 }), mode: fc.integer({ min: 0, max: 0o777 }) },
      { requiredKeys: ['name'] },
    );
    fc.assert(
      fc.property(input, fc.boolean(), (given, hasLast) => {
        const last = hasLast ? { last: { domid: 3, deviceId: 4 } } : {};
        const before = { key: KEY, label: 'x', channels: [{ spec: parseChannelSpec(given), ...last }] };
        expect(parseRecord(JSON.parse(JSON.stringify(recordToJson(before))))).toEqual(before);
      }),
    );
  });
});
