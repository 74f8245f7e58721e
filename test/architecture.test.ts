/** The floors of the house (CONTRIBUTING.md): imports go down, never up and never sideways. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const TOP = fileURLToPath(new URL('..', import.meta.url));

/** Each room with its floor. A room may import from itself and from rooms on lower floors. */
const FLOORS: Readonly<Record<string, number>> = {
  xenstore: 1,
  'src/base': 1,
  'src/sys': 1.5,
  'src/qga': 1.5,
  'src/console': 2,
  'src/chardev': 2,
  'src/fleet': 2,
  'src/hypervisor': 3,
  'src/formats': 3,
  'src/dom0': 3,
  'src/guest': 3,
  'src/backend': 4,
  'src/doctor': 4,
  'src/simulation': 5,
  'src/gateway': 5,
  'src/cli': 6,
  'src/index.ts': 6,
};

/** Room pairs that stand on the same floor in principle but where one may use the other, with the reason. */
const ALLOWED: ReadonlySet<string> = new Set([]);

type Import = { readonly file: string; readonly line: number; readonly target: string };

function sourceFiles(directory: string): string[] {
  return readdirSync(join(TOP, directory), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(TOP, join(entry.parentPath, entry.name)));
}

function importsOf(file: string): Import[] {
  const found: Import[] = [];
  const text = readFileSync(join(TOP, file), 'utf8');
  for (const match of text.matchAll(/(?:from\s+|import\s*\(\s*|import\s+)'(\.[^']+)'/g)) {
    const line = text.slice(0, match.index).split('\n').length;
    const target = relative(TOP, resolve(dirname(join(TOP, file)), match[1] ?? ''));
    found.push({ file, line, target: target.replace(/\.js$/, '.ts') });
  }
  return found;
}

function roomOf(file: string): string {
  if (file.startsWith('xenstore/')) return 'xenstore';
  return file.split('/').slice(0, 2).join('/');
}

const files = [...sourceFiles('src'), ...sourceFiles('xenstore')];

describe('the house', () => {
  it('has only rooms that the plan knows', () => {
    const unknown = [...new Set(files.map(roomOf))].filter((room) => FLOORS[room] === undefined);
    expect(unknown).toEqual([]);
  });

  it('has imports that go down only', () => {
    const wrong = files
      .flatMap(importsOf)
      .filter(({ file, target }) => {
        const from = roomOf(file);
        const to = roomOf(target);
        if (from === to || ALLOWED.has(`${from} -> ${to}`)) return false;
        return (FLOORS[to] ?? Number.POSITIVE_INFINITY) >= (FLOORS[from] ?? 0);
      })
      .map(({ file, line, target }) => `${file}:${line} imports ${target}`);
    expect(wrong).toEqual([]);
  });

  it('keeps the xenstore library free of everything but itself and Node', () => {
    const foreign = files
      .filter((file) => roomOf(file) === 'xenstore')
      .flatMap(importsOf)
      .filter(({ target }) => roomOf(target) !== 'xenstore');
    expect(foreign).toEqual([]);
  });

  it('has no file that takes more than one breath to read', () => {
    const long = files
      .map((file) => [file, readFileSync(join(TOP, file), 'utf8').split('\n').length] as const)
      .filter(([, lines]) => lines > 350);
    expect(long).toEqual([]);
  });

  it('imports koffi only through src/sys', () => {
    const direct = files.filter(
      (file) => roomOf(file) !== 'src/sys' && /['"]koffi['"]/.test(readFileSync(join(TOP, file), 'utf8')),
    );
    expect(direct).toEqual([]);
  });
});
