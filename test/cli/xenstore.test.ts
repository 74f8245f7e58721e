/**
 * `xenchannel xenstore` beside the genuine xenstore of Debian 4.17: the same store, the same arguments, the same stdout,
 * stderr and exit code.
 */
import { execFile, spawn } from 'node:child_process';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TreeDump } from '../../xenstore/index.js';
import { type SimulatedStore, startStore } from '../support/simulated-store.js';
import { until } from '../support/until.js';
import { start } from './harness.js';

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

let store: SimulatedStore;
let tree: TreeDump;

beforeAll(async () => {
  store = await startStore();
  for (const domid of [3, 5]) store.engine.introduceDomain(domid);
  await fill();
  tree = store.dump();
});
afterAll(() => store.stop());

async function fill(): Promise<void> {
  const { dom0 } = store;
  await dom0.write('/a/text', 'plain');
  await dom0.write('/a/empty', '');
  await dom0.write('/a/bytes', Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
  await dom0.write('/a/quotes', '"\\" \\n');
  await dom0.write('/a/utf8', 'grün ☃');
  await dom0.write('/a/long', 'L'.repeat(300));
  await dom0.write('/a/escapes', '\x01'.repeat(60));
  for (const length of [58, 59, 60, 61, 62, 63, 64, 65, 66, 67]) await dom0.write(`/w/v${length}`, 'v'.repeat(length));
  await dom0.write(`/deep/${Array.from({ length: 30 }, (_, i) => `level${i}`).join('/')}`, 'bottom');
  await dom0.write(`/names/${'n'.repeat(90)}`, 'wide');
  for (let i = 0; i < 700; i++) await dom0.write(`/many/child-${i}`, String(i));
  await dom0.setPermissions('/a/text', [
    { access: 'n', domid: 5 },
    { access: 'r', domid: 0 },
    { access: 'b', domid: 3 },
  ]);
}

function genuine(argv: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  return new Promise((settle) => {
    const options = { env: { ...process.env, XENSTORED_PATH: store.path, ...env }, encoding: 'latin1' as const };
    const child = execFile('xenstore', argv, options, (_error, out, err) => settle({ code: child.exitCode, out, err }));
  });
}

async function ours(argv: readonly string[], env: Record<string, string> = {}, columns?: number): Promise<Outcome> {
  const running = start({ XENSTORED_PATH: store.path, ...env }, ['xenstore', ...argv], undefined, columns);
  const code = await running.done;
  const text = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString('latin1');
  return { code, out: text(running.out.chunks), err: text(running.err.chunks) };
}

const SHOWING: readonly string[][] = [
  ['ls'],
  ['ls', '/'],
  ['ls', '/a'],
  ['ls', '-f'],
  ['ls', '-p'],
  ['ls', '-fp'],
  ['ls', '-p', '-f', '/a'],
  ['ls', '/a', '-p', '/w'],
  ['ls', '--flat', '--prefix', '/w'],
  ['ls', '/a', '/absent', '/w'],
  ['ls', '/a/'],
  ['ls', ''],
  ['ls', 'relative'],
  ['ls', '-s', '/a/text'],
  ['ls', '-z', '/a/text'],
  ['ls', '-fz', '/names'],
  ['ls', '-h'],
  ['ls', '-R'],
  ['ls', '--pre', '/w'],
  ['ls', '--r', '/names'],
  ['ls', '--socket', '/names'],
  ['ls', '--foo=yes', '/names'],
  ['ls', '--flat=yes', '/names'],
  ['ls', '--', '-p'],
  ['ls', '/many'],
  ['read', '/a/text'],
  ['read', '/a/bytes', '/a/quotes', '/a/utf8', '/a/empty'],
  ['read', '-p', '/a/text', '/a/long'],
  ['read', '-R', '/a/bytes'],
  ['read', '-R', '/a/text', '/a/empty', '/a/long'],
  ['read', '-pR', '/a/text', '/a/quotes'],
  ['read', '--raw', '--prefix', '/a/text'],
  ['read', '/absent'],
  ['read', '/a/text', '/absent', '/a/long'],
  ['read', '/a/te.xt'],
  ['read', 'ümlaut'],
  ['read', ''],
  ['read'],
  ['read', '-t', '/a/text'],
  ['read', '-n', '3', '/a/text'],
  ['read', '-x', '-y', '/a/text'],
  ['read', '--help'],
  ['list', '/'],
  ['list', '-p', '/a', '/w'],
  ['list', '/many'],
  ['list', '/absent'],
  ['list', '/a', '/absent'],
  ['list', '/a/text'],
  ['list'],
  ['exists', '/a'],
  ['exists', '/a', '/w/v60'],
  ['exists', '/a', '/absent'],
  ['exists', '-s', '/a'],
  ['exists', '-p', '/a'],
  ['exists'],
  ['watch'],
  ['watch', '-n', '0', '/a'],
  ['watch', '-n', '1', '/a'],
  ['watch', '-n2', '/a', '/absent'],
  ['watch', '-n', '1', 'relative'],
  ['watch', '-n'],
  ['watch', '--number'],
  ['watch', '-n', '1', 'a.b'],
  [],
  ['frobnicate'],
  ['toString'],
  ['-h'],
].filter((argv) => argv[0] !== '-h');

describe('xenchannel xenstore shows what xenstore shows:', () => {
  it.each(SHOWING.map((argv) => [argv.join(' '), argv] as const))('%s', async (_name, argv) => {
    expect(await ours(argv)).toEqual(await genuine(argv));
  });

  it.each([0, 1, 2, 5, 11, 20, 40, 61, 62, 63, 80, 133])('ls on a terminal with %d columns', async (columns) => {
    // script(1) gives the genuine program a terminal; stty gives that a width.
    const shown = await new Promise<string>((settle) => {
      const command = `stty cols ${columns} -onlcr; xenstore ls -p /a; xenstore ls /deep; xenstore ls -p /names`;
      const env = { ...process.env, XENSTORED_PATH: store.path };
      const child = spawn('script', ['-qec', command, '/dev/null'], { env });
      let text = '';
      child.stdout.setEncoding('latin1').on('data', (chunk: string) => {
        text += chunk;
      });
      child.on('close', () => settle(text));
      child.stdin.end();
    });
    let text = '';
    for (const argv of [
      ['ls', '-p', '/a'],
      ['ls', '/deep'],
      ['ls', '-p', '/names'],
    ]) {
      text += (await ours(argv, {}, columns)).out;
    }
    expect(text).toBe(shown);
  });

  it('no daemon', async () => {
    for (const argv of [
      ['read', '/a'],
      ['ls', '-s'],
      ['watch', '/a'],
    ]) {
      const env = { XENSTORED_PATH: '/nonexistent/socket' };
      expect(await ours(argv, env)).toEqual(await genuine(argv, env));
    }
  });
});

const CHANGING: readonly string[][] = [
  ['write', '/n', 'new'],
  ['write', '/n/a', '1', '/n/b', '2', '/n/c', ''],
  ['write', '-R', '/n', 'raw\\x00\\n'],
  ['write', '/n', 'x', '-R'],
  ['write', '--', '/n', '-R'],
  ['write', '/n', 'a\\x00\\x7f\\xfF\\t\\n\\r\\\\\\101\\0end\\q\\e'],
  ['write', '/n', 'grün ☃'],
  ['write', '/n', 'x'.repeat(4000)],
  ['write', '/n', 'x'.repeat(5000)],
  ['write', '/n', '1', '/a.b', '2'],
  ['write', '/a/text', 'over'],
  ['write', '/n'],
  ['write', '/n', '1', '/m'],
  ['write'],
  ['write', '-p', '/n', '1'],
  ['write', 'relative', 'x'],
  ['rm', '/a'],
  ['rm', '/a/text', '/w'],
  ['rm', '/absent'],
  ['rm', '/absent/absent'],
  ['rm', '/a', '/absent/absent'],
  ['rm', '/'],
  ['rm', ''],
  ['rm'],
  ['rm', '-t', '/deep/level0/level1/level2'],
  ['rm', '--tidy', `/names/${'n'.repeat(90)}`, '/w/v60'],
  ['rm', '-t', '/a/text'],
  ['rm', '-t', '/absent'],
  ['rm', '-t', 'relative/a'],
  ['rm', '-r', '/a'],
  ['chmod', '/a', 'n5', 'r3', 'w0', 'b5'],
  ['chmod', '/a', 'n5,r3'],
  ['chmod', '/a', 'b'],
  ['chmod', '/a', 'n0x10', 'r 3', 'w+5'],
  ['chmod', '/a', 'r-1'],
  ['chmod', '/a', 'n0', 'r99999999999'],
  ['chmod', '/a', 'x5'],
  ['chmod', '/a', 'n0', ''],
  ['chmod', '/a', 'n77'],
  ['chmod', '/a'],
  ['chmod'],
  ['chmod', '/absent', 'n0'],
  ['chmod', '-r', '/a', 'n3', 'r5'],
  ['chmod', '-u', '/deep/level0/level1', 'n3'],
  ['chmod', '-ru', '/deep/level0/level1', 'b3'],
  ['chmod', '--recurse', '--upto', '/a', 'w3'],
  ['chmod', '-r', '/', 'n3'],
  ['chmod', '-u', 'relative', 'n3'],
  ['chmod', '', 'n0'],
  ['chmod', '/a', ...Array.from({ length: 20 }, (_, i) => `r${i % 6}`)],
  ['chmod', '-p', '/a', 'n0'],
];

describe('xenchannel xenstore changes what xenstore changes:', () => {
  it.each(CHANGING.map((argv) => [argv.join(' ').slice(0, 80), argv] as const))('%s', async (_name, argv) => {
    const tried = async (run: typeof ours): Promise<unknown> => {
      store.engine.load(tree);
      return [await run(argv), store.dump()];
    };
    expect(await tried(ours)).toEqual(await tried(genuine));
    store.engine.load(tree);
  });

  it('every value, escaped in any way', async () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '\\',
        '\\x',
        '\\x4',
        '\\x41',
        '\\x0',
        '\\x 4',
        '\\x-1',
        '\\0',
        '\\7',
        '\\12',
        '\\377',
        '\\777',
        '\\8',
      ),
      fc.constantFrom('\\t', '\\n', '\\r', '\\\\', '\\"', '"', 'a', '0', 'f', ' ', '\t', 'ä'),
    );
    const values = fc.sample(
      fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('')),
      { numRuns: 300, seed: 417 },
    );
    const argv = ['write', ...values.flatMap((value, i) => [`/values/${i}`, value])];
    expect(await genuine(argv)).toEqual({ code: 0, out: '', err: '' });
    const expected = store.dump();
    store.engine.load(tree);
    expect(await ours(argv)).toEqual({ code: 0, out: '', err: '' });
    expect(store.dump()).toEqual(expected);
    expect(await ours(['ls', '-fp', '/values'])).toEqual(await genuine(['ls', '-fp', '/values']));
    store.engine.load(tree);
  });
});

describe('xenchannel xenstore', () => {
  it('acts as the domain whose socket it is given', async () => {
    await store.dom0.mkdir('/local/domain/5/data');
    await store.dom0.setPermissions('/local/domain/5/data', [{ access: 'n', domid: 5 }]);
    const env = { XENSTORED_PATH: await store.socketOfDomain(5) };
    for (const argv of [
      ['write', 'data/x', '1'],
      ['read', 'data/x'],
      ['ls', '-p'],
      ['write', '/tool/x', '1'],
    ]) {
      expect(await ours(argv, env)).toEqual(await genuine(argv, env));
    }
    store.engine.load(tree);
  });

  it('prints changes as they come, each as often as the daemon says it', async () => {
    const running = start({ XENSTORED_PATH: store.path }, ['xenstore', 'watch', '-n', '4', '/changing', '/a']);
    await until('both are watched', () => running.out.text === '/changing\n/a\n');
    for (const value of ['1', '2']) await store.dom0.write('/changing/x', value);
    expect(await running.done).toBe(0);
    expect(running.out.text).toBe('/changing\n/a\n/changing/x\n/changing/x\n');
    store.engine.load(tree);
  });

  it('ends with 130 when a watch is interrupted', async () => {
    const running = start({ XENSTORED_PATH: store.path }, ['xenstore', 'watch', '/a']);
    await until('it is watched', () => running.out.text === '/a\n');
    running.interrupt();
    expect(await running.done).toBe(130);
  });

  it('makes nodes without a value, all or none', async () => {
    expect(await ours(['mkdir', '/made/a', '/made/b'])).toEqual({ code: 0, out: '', err: '' });
    expect((await ours(['list', '/made'])).out).toBe('a\nb\n');
    expect(await ours(['mkdir', '/made/c', '/made/.d'])).toEqual({
      code: 1,
      out: '',
      err: 'xenstore: could not make path /made/.d\n',
    });
    expect((await ours(['list', '/made'])).out).toBe('a\nb\n');
    store.engine.load(tree);
  });

  it('refuses bytes that Node.js has not passed on, and says how to write them', async () => {
    expect(await ours(['write', '/n', 'a\ufffd'])).toEqual({
      code: 1,
      out: '',
      err: 'xenstore: an argument is not valid UTF-8: write such bytes as \\xNN\n',
    });
  });

  it('has a help of its own', async () => {
    const { code, out } = await ours(['--help']);
    expect(code).toBe(0);
    expect(out).toContain('Usage: xenchannel xenstore <mode> [options] ...');
    expect(out).toContain('chmod [-u] [-r] key perm...');
  });
});
