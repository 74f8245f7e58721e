/**
 * What each mode of the xenstore utilities does with its operands. Strings are latin-1, one character per byte.
 * Source: xen:tools/xenstore/xenstore_client.c (perform, do_chmod, do_watch), seen on Xen 4.17.
 */
import { type Complain, Failure, strerror } from './failure.js';
import { Lister } from './ls.js';
import type { StoreRequests } from './requests.js';
import { escaped, unescaped } from './values.js';

export interface Switches {
  readonly flat: boolean;
  readonly prefix: boolean;
  readonly tidy: boolean;
  readonly upto: boolean;
  readonly recurse: boolean;
  readonly raw: boolean;
  /** Events to wait for; -1 for no end. */
  readonly number: number;
}

export interface Job {
  readonly store: StoreRequests;
  readonly operands: readonly string[];
  readonly switches: Switches;
  readonly columns: number | undefined;
  /** Collected, and printed when the transaction is over. */
  readonly output: string[];
  /** Printed at once. */
  readonly print: (text: string) => void;
  readonly complain: Complain;
}

/** Resolves to the exit code; throws Failure where the program ends on the spot. */
export type Mode = (job: Job) => Promise<0 | 1>;

async function read({ store, operands, switches, output, complain }: Job): Promise<0 | 1> {
  for (const path of operands) {
    const value = await attempt(store.read(path));
    if (value === undefined) {
      complain(`couldn't read path ${path}`);
      return 1;
    }
    output.push(switches.prefix ? `${path}: ` : '', switches.raw ? value : `${escaped(value)}\n`);
  }
  return 0;
}

async function write({ store, operands, switches, complain }: Job): Promise<0 | 1> {
  for (let at = 0; at < operands.length; at += 2) {
    const [path = '', text = ''] = operands.slice(at, at + 2);
    if (!(await succeeds(store.write(path, switches.raw ? text : unescaped(text))))) {
      complain(`could not write path ${path}`);
      return 1;
    }
  }
  return 0;
}

async function mkdir({ store, operands, complain }: Job): Promise<0 | 1> {
  for (const path of operands) {
    if (!(await succeeds(store.mkdir(path)))) {
      complain(`could not make path ${path}`);
      return 1;
    }
  }
  return 0;
}

async function rm({ store, operands, switches, complain }: Job): Promise<0 | 1> {
  for (const operand of operands) {
    for (let path: string | undefined = operand; path !== undefined; ) {
      if (!(await succeeds(store.remove(path)))) {
        complain(`could not remove path ${path}`);
        return 1;
      }
      path = switches.tidy ? await uselessParent(store, path) : undefined;
    }
  }
  return 0;
}

/** The parent, if it has neither value nor children any more. */
async function uselessParent(store: StoreRequests, path: string): Promise<string | undefined> {
  const slash = path.lastIndexOf('/');
  if (slash < 0) return undefined;
  const parent = path.slice(0, slash);
  if ((await attempt(store.read(parent))) !== '') return undefined;
  return (await attempt(store.directory(parent)))?.length === 0 ? parent : undefined;
}

async function exists({ store, operands }: Job): Promise<0 | 1> {
  for (const path of operands) if ((await attempt(store.read(path))) === undefined) return 1;
  return 0;
}

async function list({ store, operands, switches, output, complain }: Job): Promise<0 | 1> {
  for (const path of operands) {
    const names = await attempt(store.directory(path));
    if (names === undefined) {
      complain(`could not list path ${path}`);
      return 1;
    }
    for (const name of names) output.push(switches.prefix ? `${path}/` : '', `${name}\n`);
  }
  return 0;
}

async function ls({ store, operands, switches, columns, print, complain }: Job): Promise<0 | 1> {
  const options = { wholePaths: switches.flat, permissions: switches.prefix, columns };
  const lister = new Lister(store, options, print, complain);
  for (const path of operands.length === 0 ? ['/'] : operands) await lister.list(path);
  return 0;
}

async function chmod({ store, operands, switches }: Job): Promise<0 | 1> {
  const [path = '', ...texts] = operands;
  const permissions = texts.map((text) => {
    const letter = text.charAt(0);
    if (!/^[nrwb]$/.test(letter)) throw new Failure(`Invalid permission specification: '${letter || '\0'}'`);
    return `${letter}${atoi(text.slice(1))}`;
  });
  await setPermissions(store, path, permissions, switches.upto, switches.recurse);
  return 0;
}

async function setPermissions(
  store: StoreRequests,
  path: string,
  permissions: readonly string[],
  upto: boolean,
  recurse: boolean,
): Promise<void> {
  if (path === '') return;
  await store.setPermissions(path, permissions).catch((error: unknown) => {
    throw new Failure(`Error occurred setting permissions on '${path}': ${strerror(error)}`);
  });
  if (upto) {
    const slash = path.lastIndexOf('/');
    if (slash < 0) throw new Failure(`Unable to locate path separator '/' in '${path}'`);
    await setPermissions(store, path.slice(0, slash), permissions, true, false);
  }
  if (!recurse) return;
  const names = (await attempt(store.directory(path))) ?? [];
  for (const name of names) await setPermissions(store, `${path}/${name}`, permissions, false, true);
}

async function watch({ store, operands, switches, print }: Job): Promise<0 | 1> {
  let left = switches.number;
  if (left === 0) return 0;
  const done = store.events((path) => {
    print(`${path}\n`);
    return --left !== 0;
  });
  // Nobody awaits it yet when the connection breaks during the registrations, which fail then.
  done.catch(() => {});
  for (const path of operands) {
    if (!(await succeeds(store.watch(path)))) throw new Failure(`Unable to add watch on ${path}\n`);
  }
  await done;
  return 0;
}

/** Undefined for every failure. */
async function attempt<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch {
    return undefined;
  }
}

async function succeeds(done: Promise<void>): Promise<boolean> {
  try {
    await done;
    return true;
  } catch {
    return false;
  }
}

/** C's, cut to an int. */
export function atoi(text: string): number {
  const digits = /^[ \t\n\v\f\r]*([+-]?\d+)/.exec(text)?.[1];
  return digits === undefined ? 0 : Number(BigInt.asIntN(32, BigInt(digits.replace('+', ''))));
}

interface ModeEntry {
  readonly run: Mode;
  /** Between the name and the end of the usage line. */
  readonly usage: string;
  /** Switches besides -h and -s. */
  readonly flags: string;
  /** Operands from which on a transaction is needed. */
  readonly transactionFrom: number;
}

const NEVER = Number.POSITIVE_INFINITY;

export const MODES: Readonly<Record<string, ModeEntry>> = {
  chmod: { run: chmod, usage: '[-h] [-u] [-r] [-s] key <mode [modes...]>', flags: 'ur', transactionFrom: 0 },
  exists: { run: exists, usage: '[-h] [-p] [-s] key [...]', flags: '', transactionFrom: 0 },
  list: { run: list, usage: '[-h] [-p] [-s] key [...]', flags: 'p', transactionFrom: 0 },
  ls: { run: ls, usage: '[-h] [-f] [-p] [-s] [path]', flags: 'fp', transactionFrom: NEVER },
  /** Not a mode of the genuine program. */
  mkdir: { run: mkdir, usage: '[-h] [-s] key [...]', flags: '', transactionFrom: 2 },
  read: { run: read, usage: '[-h] [-p] [-s] [-R] key [...]', flags: 'pR', transactionFrom: 2 },
  rm: { run: rm, usage: '[-h] [-s] [-t] key [...]', flags: 't', transactionFrom: 0 },
  write: { run: write, usage: '[-h] [-s] [-R] key value [...]', flags: 'R', transactionFrom: 3 },
  watch: { run: watch, usage: '[-h] [-n NR] key', flags: 'n', transactionFrom: NEVER },
};
