import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  linkSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FIRST_DATA_BYTES, KEPT_DATA_BYTES, MAX_KEPT_BEHIND_BYTES } from '../../src/chardev/file-queue.js';
import { FileSpool } from '../../src/chardev/file-spool.js';
import { type OverflowPolicy, Spool } from '../../src/chardev/spool.js';
import { HEADER_BYTES } from '../../src/chardev/spool-header.js';
import { builtSources } from '../support/built-sources.js';
import { temporaryDirectory } from '../support/temp-directory.js';

const KEY = '01234567-89ab-cdef-0123-456789abcdef/5/1';
const bytes = (text: string): Uint8Array => Buffer.from(text);
const newPath = (): string => join(temporaryDirectory(), 'spool');

type Setup = { path?: string; limitBytes?: number; policy?: OverflowPolicy; key?: string; degraded?: unknown[] };

function open({ path = newPath(), limitBytes = 4096, policy = 'drop-oldest', key = KEY, degraded = [] }: Setup = {}) {
  const onDegraded = (error: unknown): void => void degraded.push(error);
  return { path, degraded, ...FileSpool.open({ path, key, limitBytes, policy, onDegraded }) };
}

/** What a process that begins now finds, while the one before it has gone without a word. */
const successor = (path: string, setup: Setup = {}) => open({ ...setup, path });

describe('a spool in a file', () => {
  it('makes nothing before the first byte', () => {
    const { spool, found, path } = open();
    expect(found).toEqual({ kind: 'none' });
    expect(spool.peek().length).toBe(0);
    spool.consume(0);
    spool.tidy();
    expect(existsSync(path)).toBe(false);
  });

  it('is readable by nobody else', () => {
    const { spool, path } = open();
    spool.append(bytes('secret'));
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('is found by the next process as this one left it', () => {
    const { spool, path } = open();
    spool.append(bytes('gone, '));
    spool.append(bytes('kept'));
    spool.consume(6);
    const next = successor(path);
    expect(next.found).toEqual({ kind: 'recovered', bytes: 4, source: undefined });
    expect(next.spool.copyAll().toString()).toBe('kept');
    expect(next.spool.received).toBe(10);
  });

  it('tells the next process where the source stood, modulo 2^32', () => {
    const { spool, path } = open();
    spool.setSource({ id: [9, 17], position: 0xfffffffe });
    spool.append(bytes('abcde'));
    expect(successor(path).found).toMatchObject({ source: { id: [9, 17], position: 3 } });
    spool.setSource({ id: [10, 18], position: 0 });
    spool.append(bytes('fg'));
    expect(successor(path).found).toMatchObject({ bytes: 7, source: { id: [10, 18], position: 2 } });
  });

  it('counts what passed beside it, and tells the next process so', () => {
    const { spool, path } = open();
    spool.setSource({ id: [1, 1], position: 0xfffffffe });
    spool.pass(3);
    expect([spool.size, spool.received]).toEqual([0, 3]);
    spool.append(bytes('de'));
    const next = successor(path);
    expect(next.found).toMatchObject({ bytes: 2, source: { position: 3 } });
    expect(next.spool.received).toBe(5);
    expect(statSync(path).size).toBe(HEADER_BYTES + FIRST_DATA_BYTES);
  });

  it('takes back what had passed beside it', () => {
    const { spool, path } = open();
    spool.append(bytes('stood'));
    spool.consume(5);
    spool.pass(12);
    spool.prepend(bytes('not read'));
    spool.append(bytes(', new'));
    const next = successor(path).spool;
    expect([next.copyAll().toString(), next.received]).toEqual(['not read, new', 22]);
  });

  it('counts refused bytes of the source, too', () => {
    const { spool, path } = open({ limitBytes: 4, policy: 'drop-newest' });
    spool.setSource({ id: [1, 1], position: 0 });
    expect(spool.append(bytes('abcdef'))).toBe(2);
    const next = successor(path, { limitBytes: 4, policy: 'drop-newest' });
    expect(next.found).toMatchObject({ bytes: 4, source: { position: 6 } });
    expect(next.spool.dropped).toBe(2);
  });

  it('keeps what the kernel has not got for the next process, until it has', () => {
    const { spool, path } = open();
    spool.append(bytes('sent waiting rest'));
    spool.consume(13, 8);
    expect(spool.copyAll().toString()).toBe('rest');
    expect(successor(path).spool.copyAll().toString()).toBe('waiting rest');
    spool.keepBehind(0);
    expect(successor(path).spool.copyAll().toString()).toBe('rest');
  });

  it('takes back what was kept behind without forgetting it in between', () => {
    const { spool, path } = open();
    spool.append(bytes('sent waiting rest'));
    spool.consume(13, 8);
    spool.prepend(bytes('waiting '));
    expect(spool.copyAll().toString()).toBe('waiting rest');
    expect(successor(path).spool.copyAll().toString()).toBe('waiting rest');
  });

  it('leaves nothing kept behind when what comes back finds no room', () => {
    const { spool, path } = open({ limitBytes: 8 });
    spool.append(bytes('12345678'));
    spool.consume(8, 3);
    spool.append(bytes('abcdefgh'));
    expect(spool.prepend(bytes('678'))).toBe(3);
    const next = successor(path, { limitBytes: 8 }).spool;
    expect(next.copyAll().toString()).toBe('abcdefgh');
    expect(next.dropped).toBe(3);
  });

  it('keeps nothing behind that was dropped and never given', () => {
    const { spool, path } = open({ limitBytes: 8 });
    spool.append(bytes('12345678'));
    spool.consume(2, 2);
    spool.append(bytes('abcdef'));
    spool.keepBehind(2);
    const next = successor(path, { limitBytes: 8 }).spool;
    expect(next.copyAll().toString()).toBe('78abcdef');
    expect(next.dropped).toBe(4);
  });

  it('is written into in place, and counts that only when it is committed', () => {
    const { spool, path } = open();
    spool.reserve(2048)?.set(bytes('in place'));
    expect(successor(path).spool.size).toBe(0);
    spool.commit(8);
    expect(successor(path).spool.copyAll().toString()).toBe('in place');
  });

  it('reserves no more than its limit has room for', () => {
    const { spool } = open({ limitBytes: 4096 });
    spool.append(Buffer.alloc(2049));
    expect(spool.reserve(2048)).toBeUndefined();
    expect(spool.reserve(2047)?.length).toBe(2047);
  });

  it('never holds more than the first storage when it is tidied, and gives a burst back when it is empty', () => {
    const limitBytes = 2 * KEPT_DATA_BYTES;
    const { spool, path } = open({ limitBytes });
    const burst = (bytes: number): void => {
      for (let left = bytes; left > 0; left -= 65536) spool.append(Buffer.alloc(65536, left));
    };
    burst(256 * 1024);
    spool.consume(256 * 1024);
    expect(statSync(path).size).toBe(HEADER_BYTES + 256 * 1024);
    spool.tidy();
    expect(statSync(path).size).toBe(HEADER_BYTES + FIRST_DATA_BYTES);
    burst(limitBytes);
    spool.consume(limitBytes);
    expect(statSync(path).size).toBe(HEADER_BYTES + FIRST_DATA_BYTES);
    spool.append(bytes('on it goes'));
    expect(successor(path, { limitBytes }).spool.copyAll().toString()).toBe('on it goes');
  });

  it('moves into a file of another limit, and drops what does not fit', () => {
    const { spool, path } = open({ limitBytes: 8192 });
    spool.setSource({ id: [1, 2], position: 0 });
    spool.append(Buffer.alloc(5000, 'a'));
    spool.append(bytes('z'));
    const next = successor(path, { limitBytes: 4096 });
    expect(next.found).toMatchObject({ kind: 'recovered', bytes: 4096, source: { position: 5001 } });
    expect(next.spool.dropped).toBe(905);
    expect(next.spool.received).toBe(5001);
    expect(successor(path, { limitBytes: 4096 }).spool.copyAll().at(-1)).toBe('z'.charCodeAt(0));
  });

  it('leaves everything to an orderly successor in the file', () => {
    const { spool, path } = open();
    spool.append(bytes('all of it'));
    expect(spool.leave().length).toBe(0);
    expect(successor(path).spool.copyAll().toString()).toBe('all of it');
  });

  it('holds its bytes when its channel is forgotten, and a successor has the path', () => {
    const { spool, path } = open();
    spool.append(bytes('last words'));
    spool.forget();
    const next = open({ path });
    next.spool.append(bytes('first words'));
    spool.append(Buffer.alloc(3000));
    spool.forget();
    expect(Buffer.from(spool.peek(10)).toString()).toBe('last words');
    expect(successor(path).spool.copyAll().toString()).toBe('first words');
  });

  it('goes on in memory, with all its bytes, when the file can no more grow', () => {
    const { spool, path, degraded } = open({ limitBytes: 65536, policy: 'drop-newest' });
    spool.append(bytes('before '));
    expect(spool.storage).toBe('file');
    // As an administrator may do it; a full file system says so at the same place.
    symlinkOver(path);
    spool.append(Buffer.alloc(FIRST_DATA_BYTES, 'x'));
    expect(spool.storage).toBe('memory');
    expect(degraded).toHaveLength(1);
    expect(spool.size).toBe(7 + FIRST_DATA_BYTES);
    expect(Buffer.from(spool.peek(7)).toString()).toBe('before ');
  });

  it('begins in memory where no file can be made', () => {
    const { spool, degraded } = open({ path: '/proc/none/spool' });
    expect(spool.append(bytes('all the same'))).toBe(0);
    expect(spool.takeAll().toString()).toBe('all the same');
    expect(spool.storage).toBe('memory');
    expect(degraded).toHaveLength(1);
  });
});

/** The path leads nowhere now: what opens it without following links fails. */
function symlinkOver(path: string): void {
  unlinkSync(path);
  symlinkSync('/nowhere', path);
}

describe('a spool file of doubtful origin', () => {
  const made = (): string => {
    const { spool, path } = open();
    spool.append(bytes('content'));
    return path;
  };
  const field = (path: string, index: number, value: number): void => {
    const file = readFileSync(path);
    file.writeDoubleLE(value, index * 8);
    writeFileSync(path, file);
  };

  it.each<[string, (path: string) => void]>([
    ['is readable by others', (path) => chmodSync(path, 0o644)],
    ['has a second name', (path) => linkSync(path, `${path}.other`)],
    ['is cut short', (path) => truncateSync(path, HEADER_BYTES + 3)],
    ['has no whole header', (path) => truncateSync(path, HEADER_BYTES - 1)],
    ['is empty', (path) => truncateSync(path, 0)],
    ['is longer than any spool', (path) => truncateSync(path, 2 ** 31)],
    ['is something else', (path) => writeFileSync(path, Buffer.alloc(8192, 'x'))],
    ['has a negative offset', (path) => field(path, 17, -1)],
    ['has an offset that is no number', (path) => field(path, 16, Number.NaN)],
    ['has a broken offset', (path) => field(path, 16, 6.5)],
    ['ends before it begins', (path) => field(path, 17, 8)],
    ['starts before its base', (path) => field(path, 18, 3)],
    ['claims more than fits', (path) => field(path, 16, 2 ** 40)],
    ['has a size of nothing', (path) => field(path, 1, 0)],
    ['has an endless size', (path) => field(path, 1, 2 ** 50)],
  ])('is not believed and removed when it %s', (what, spoil) => {
    const path = made();
    if (what.startsWith('starts')) {
      const { spool } = successor(path);
      spool.consume(2);
    }
    spoil(path);
    const { found, spool } = successor(path);
    expect(found.kind).toBe('unusable');
    expect(existsSync(path)).toBe(false);
    spool.append(bytes('anew'));
    expect(successor(path).spool.copyAll().toString()).toBe('anew');
  });

  it('is not believed when it belongs to another channel', () => {
    expect(successor(made(), { key: 'other/5/1' }).found).toEqual({
      kind: 'unusable',
      why: 'it belongs to another channel',
    });
  });

  it('is not followed when it is a link', () => {
    const target = made();
    const link = join(temporaryDirectory(), 'spool');
    symlinkSync(target, link);
    expect(successor(link).found.kind).toBe('unusable');
    expect(readFileSync(target).length).toBeGreaterThan(HEADER_BYTES);
  });

  it('has no wrong mark of its source where the mark was being written', () => {
    const { spool, path } = open();
    spool.setSource({ id: [1, 2], position: 3 });
    spool.append(bytes('x'));
    field(path, 24, 0);
    expect(successor(path).found).toMatchObject({ kind: 'recovered', source: undefined });
  });

  it('never ends the process, whatever numbers are in it', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.oneof(fc.double(), fc.integer()), (index, value) => {
        const path = made();
        field(path, index, value);
        const { spool } = successor(path);
        spool.append(bytes('more'));
        expect(spool.takeAll().subarray(-4).toString()).toBe('more');
      }),
      { numRuns: 60 },
    );
  });
});

describe('a spool in a file, beside one in memory', () => {
  const operation = fc.oneof(
    fc.record({ kind: fc.constant('append' as const), data: fc.uint8Array({ maxLength: 40 }) }),
    fc.record({ kind: fc.constant('prepend' as const), data: fc.uint8Array({ maxLength: 12 }) }),
    fc.record({ kind: fc.constant('consume' as const), count: fc.nat(30), keptBehind: fc.nat(12) }),
    fc.record({ kind: fc.constant('return' as const) }),
    fc.record({ kind: fc.constant('pass' as const), count: fc.nat(30) }),
    fc.record({ kind: fc.constant('tidy' as const) }),
    fc.record({ kind: fc.constant('crash' as const) }),
  );

  it('holds the same after any sequence of operations and deaths', () => {
    const directory = temporaryDirectory();
    let run = 0;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 32 }),
        fc.constantFrom<OverflowPolicy>('drop-oldest', 'drop-newest'),
        fc.array(operation, { maxLength: 40 }),
        (limitBytes, policy, operations) => {
          const path = join(directory, `spool${run++}`);
          let { spool } = open({ path, limitBytes, policy });
          const model = new Spool({ limitBytes, policy });
          // What a client has been given and not yet got: the next process is to find it before the rest.
          let kept = Buffer.alloc(0);
          for (const step of operations) {
            if (step.kind === 'append') {
              const dropped = model.append(step.data);
              expect(spool.append(step.data)).toBe(dropped);
              if (dropped > 0 && policy === 'drop-oldest') kept = Buffer.alloc(0);
            } else if (step.kind === 'prepend' || step.kind === 'return') {
              const data = step.kind === 'return' || kept.length > 0 ? kept : step.data;
              expect(spool.prepend(data)).toBe(model.prepend(data));
              kept = Buffer.alloc(0);
            } else if (step.kind === 'tidy') spool.tidy();
            else if (step.kind === 'pass') {
              // Only to somebody who waits, and nothing older may be on its way to him.
              if (model.size === 0 && kept.length === 0) spool.pass(step.count);
            } else if (step.kind === 'crash') {
              spool = successor(path, { limitBytes, policy }).spool;
              expect(spool.copyAll()).toEqual(Buffer.concat([kept, model.copyAll()]));
              spool.consume(kept.length);
              kept = Buffer.alloc(0);
            } else {
              const count = Math.min(step.count, model.size);
              const passed = Buffer.concat([kept, model.copyAll().subarray(0, count)]);
              kept = passed.subarray(Math.max(0, passed.length - step.keptBehind));
              // More than that cannot be under way.
              spool.consume(count, kept.length);
              model.consume(count);
            }
            expect(spool.copyAll()).toEqual(model.copyAll());
            expect(spool.dropped).toBe(model.dropped);
          }
          expect(spool.storage).toBe('file');
        },
      ),
      { numRuns: 200 },
    );
  });

  it('wraps around in its file as one in memory does', () => {
    const limitBytes = 8192;
    const path = newPath();
    let { spool } = open({ path, limitBytes });
    const model = new Spool({ limitBytes });
    spool.append(bytes('!'));
    model.append(bytes('!'));
    // Never empty, for more than the file is long.
    for (let i = 0; i < 3 * (limitBytes + MAX_KEPT_BEHIND_BYTES); i += 1000) {
      const piece = Buffer.alloc(1000, i % 251);
      spool.append(piece);
      model.append(piece);
      if (i % 37_000 === 0) spool = successor(path, { limitBytes }).spool;
      expect(spool.peek(1)[0]).toBe(model.peek(1)[0]);
    }
    expect(spool.copyAll()).toEqual(model.copyAll());
  });
});

describe('a process that is killed', () => {
  const built = builtSources(['test/chardev/spool-writer.ts']);

  it('loses nothing that it had appended, and its successor knows where it stood', { timeout: 30_000 }, async () => {
    const path = newPath();
    const child = spawn(process.execPath, [join(built(), 'test/chardev/spool-writer.js'), path, KEY], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const { found, spool } = successor(path, { limitBytes: 65536 });
    expect(found.kind).toBe('recovered');
    const start = spool.received - spool.size;
    const content = spool.copyAll();
    for (let at = 0; at < content.length; at++) {
      if (content[at] !== (start + at) % 251) throw new Error(`byte ${at} of ${content.length} is wrong`);
    }
    expect(found).toMatchObject({ source: { position: spool.received % 2 ** 32 } });
    expect(spool.received).toBeGreaterThan(65536);
  });
});
