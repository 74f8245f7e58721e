/** Who has a line open, as a directory in the place of /proc shows it. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { findHolders } from '../../src/guest/holders.js';

/** `processes`: what each has open, by pid. */
function makeProc(processes: Readonly<Record<string, readonly string[]>>): string {
  const proc = mkdtempSync(join(tmpdir(), 'xenchannel-proc-'));
  onTestFinished(() => rmSync(proc, { recursive: true }));
  for (const [pid, paths] of Object.entries(processes)) {
    mkdirSync(join(proc, pid, 'fd'), { recursive: true });
    writeFileSync(join(proc, pid, 'comm'), `program${pid}\n`);
    for (const [fd, path] of paths.entries()) symlinkSync(path, join(proc, pid, 'fd', String(fd)));
  }
  return proc;
}

const NOBODY: ReadonlySet<number> = new Set();
const LINES = new Set(['/dev/hvc1', '/dev/hvc2']);

it('a process that has a line open is found, with its name', async () => {
  const proc = makeProc({ 7: ['/dev/null', '/dev/hvc1'], 8: ['/dev/hvc3'], self: ['/dev/hvc2'] });
  const found = await findHolders(LINES, { proc, ignored: NOBODY });
  expect([...found]).toEqual([['/dev/hvc1', { pid: 7, command: 'program7' }]]);
});

it('ignored processes and kernel threads hold nothing', async () => {
  const proc = makeProc({ 2: [], 7: ['/dev/hvc1'] });
  expect(await findHolders(LINES, { proc, ignored: new Set([7]) })).toEqual(new Map());
});

it('processes that go while they are looked at are passed over', async () => {
  const proc = makeProc({ 7: ['/dev/hvc1'], 9: ['/dev/hvc2'] });
  rmSync(join(proc, '7'), { recursive: true });
  mkdirSync(join(proc, '7'));
  expect([...(await findHolders(LINES, { proc, ignored: NOBODY })).keys()]).toEqual(['/dev/hvc2']);
});

it('thousands of descriptors do not keep others from their turn', async () => {
  const many = Object.fromEntries(
    Array.from({ length: 20 }, (_, index) => [index + 10, new Array(100).fill('/dev/null')]),
  );
  const proc = makeProc({ ...many, 99: ['/dev/hvc1'] });
  let turns = 0;
  const count = (): void => {
    turns++;
    running = setImmediate(count);
  };
  let running = setImmediate(count);
  expect([...(await findHolders(LINES, { proc, ignored: NOBODY })).keys()]).toEqual(['/dev/hvc1']);
  clearImmediate(running);
  expect(turns).toBeGreaterThanOrEqual(3);
});
