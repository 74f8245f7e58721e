import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decode, encode, HandoverFiles, type HandoverRecord } from '../../src/backend/handover.js';
import { temporaryDirectory } from '../support/temp-directory.js';

const UUID = '01234567-89ab-cdef-0123-456789abcdef';

const RECORD: HandoverRecord = {
  domid: 5,
  deviceId: 1,
  uuid: UUID,
  ring: { ringRef: 9, port: 17, outConsumed: 0xfffffff0, inProduced: 12 },
  session: {
    fromGuestBytes: 100,
    toGuestBytes: 12,
    deliveredBytes: 90,
    droppedBytes: 3,
    spoken: true,
    answering: false,
    output: Buffer.from('output'),
    input: Buffer.from([0, 10, 255]),
    nonce: '0123456789abcdef',
  },
};

const bytesOf = (record: HandoverRecord): Buffer => Buffer.concat(encode(record));

/** The same file with another header, whose checksum and lengths are right. */
function withHeader(change: (header: Record<string, unknown>) => void): Buffer {
  const bytes = bytesOf(RECORD);
  const end = bytes.indexOf(10);
  const header = JSON.parse(bytes.toString('utf8', 0, end)) as Record<string, unknown>;
  change(header);
  return Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), bytes.subarray(end + 1)]);
}

describe('a hand-over file', () => {
  it('says the same when it is read', () => {
    expect(decode(bytesOf(RECORD))).toEqual(RECORD);
  });

  it('says the same for any bytes and figures', () => {
    const figure = fc.maxSafeNat();
    const u32 = fc.nat(0xffffffff);
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.uint8Array({ maxLength: 300 }),
        fc.option(fc.record({ ringRef: u32, port: u32, outConsumed: u32, inProduced: u32 }), { nil: undefined }),
        fc.tuple(figure, figure, figure, figure, fc.boolean(), fc.boolean()),
        (output, input, ring, [fromGuestBytes, toGuestBytes, deliveredBytes, droppedBytes, spoken, answering]) => {
          const figures = { fromGuestBytes, toGuestBytes, deliveredBytes, droppedBytes, spoken, answering };
          const session = { ...figures, output: Buffer.from(output), input: Buffer.from(input) };
          const record: HandoverRecord = { domid: 1, deviceId: 2, uuid: undefined, ring, session };
          expect(decode(bytesOf(record))).toEqual(record);
        },
      ),
    );
  });

  it.each<[string, Buffer]>([
    ['empty', Buffer.alloc(0)],
    ['no header line', Buffer.alloc(5000, 0x61)],
    ['no JSON', Buffer.from('hello\n')],
    ['null', Buffer.from('null\n')],
    ['a byte short', bytesOf(RECORD).subarray(0, -1)],
    ['a byte long', Buffer.concat([bytesOf(RECORD), Buffer.from('x')])],
    ['another version', withHeader((header) => Object.assign(header, { version: 2 }))],
    ['a negative length', withHeader((header) => Object.assign(header, { outputBytes: -1, inputBytes: 10 }))],
    ['a fraction', withHeader((header) => Object.assign(header, { domid: 1.5 }))],
    ['no ring', withHeader((header) => Object.assign(header, { ring: 'none' }))],
    ['half a ring', withHeader((header) => Object.assign(header, { ring: { ringRef: 1, port: 1 } }))],
    ['a number for a uuid', withHeader((header) => Object.assign(header, { uuid: 7 }))],
    ['no figures', withHeader((header) => Object.assign(header, { session: null }))],
    ['a nonce that is none', withHeader((header) => Object.assign(header['session'] as object, { nonce: 'x\n' }))],
    ['spoken: 1', withHeader((header) => Object.assign(header['session'] as object, { spoken: 1 }))],
  ])('is not believed when it is %s', (_what, bytes) => {
    expect(decode(bytes)).toBeTypeOf('string');
  });

  it('is not believed when any bit of its bytes has changed', () => {
    const bytes = bytesOf(RECORD);
    const start = bytes.indexOf(10) + 1;
    for (let at = start; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(decode(changed)).toBe('its checksum is wrong');
    }
  });

  it('never makes the reader throw, whatever is in it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (noise) => {
        expect(decode(Buffer.from(noise))).toBeTypeOf('string');
      }),
    );
    fc.assert(
      fc.property(fc.json(), (json) => {
        expect(decode(Buffer.from(`${json}\n`))).toBeTypeOf('string');
      }),
    );
  });
});

describe('the hand-over directory', () => {
  const files = (): { directory: string; handovers: HandoverFiles } => {
    const directory = temporaryDirectory();
    return { directory: join(directory, 'handover'), handovers: new HandoverFiles(directory) };
  };

  it('gives a record once, and is for its owner only', () => {
    const { directory, handovers } = files();
    handovers.save(RECORD);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(statSync(join(directory, '5-1')).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(['5-1']);
    expect(handovers.take(RECORD)).toEqual({ kind: 'record', record: RECORD });
    expect(handovers.take(RECORD)).toEqual({ kind: 'none' });
  });

  it.each<[string, (path: string) => void]>([
    ['others may write', (path) => chmodSync(path, 0o620)],
    ['it is a link', (path) => symlinkSync('/etc/passwd', path)],
    ['it is a directory', (path) => mkdirSync(path)],
    ['it is garbage', (path) => writeFileSync(path, 'garbage', { mode: 0o600 })],
  ])('gives nothing when %s, and clears it away', (what, make) => {
    const { directory, handovers } = files();
    const path = join(directory, '5-1');
    mkdirSync(directory, { recursive: true });
    if (what === 'others may write') handovers.save(RECORD);
    make(path);
    expect(handovers.take(RECORD)).toMatchObject({ kind: 'unusable' });
    expect(existsSync(path)).toBe(false);
    expect(readFileSync('/etc/passwd').length).toBeGreaterThan(0);
  });

  it.each([
    { domid: 5, deviceId: 1, uuid: 'ffffffff-89ab-cdef-0123-456789abcdef' },
    { domid: 5, deviceId: 1, uuid: undefined },
  ])('gives nothing to another domain with the same id ($uuid)', (key) => {
    const { handovers } = files();
    handovers.save(RECORD);
    expect(handovers.take(key)).toMatchObject({ kind: 'unusable' });
  });

  it('replaces an older record, and what an interrupted save left is in nobody’s way', () => {
    const { directory, handovers } = files();
    handovers.save({ ...RECORD, session: { ...RECORD.session, fromGuestBytes: 1 } });
    writeFileSync(join(directory, '5-1.new'), 'half');
    handovers.save(RECORD);
    expect(handovers.take(RECORD)).toEqual({ kind: 'record', record: RECORD });
  });

  it('is cleared of what belongs to no channel', () => {
    const { directory, handovers } = files();
    handovers.save(RECORD);
    handovers.save({ ...RECORD, deviceId: 2 });
    writeFileSync(join(directory, '5-1.new'), 'half');
    expect(handovers.discardExcept((domid, deviceId) => domid === 5 && deviceId === 2).sort()).toEqual([
      '5-1',
      '5-1.new',
    ]);
    expect(readdirSync(directory)).toEqual(['5-2']);
  });
});
