/**
 * The program `xenstore` from its arguments to its exit code: what it prints on stdout and stderr and what it returns are
 * those of xenstore-utils 4.17. Source: xen:tools/xenstore/xenstore_client.c (main, usage).
 */
import { isXenstoreError } from '../../../xenstore/errors.js';
import { untilAborted } from '../context.js';
import type { Io } from '../io.js';
import { Failure, strerror } from './failure.js';
import { getopt, type Option } from './getopt.js';
import { atoi, type Job, MODES, type Switches } from './modes.js';
import { StoreRequests } from './requests.js';

/** What is printed at once is kept until there is this much, or the program waits for something. */
const BATCH_BYTES = 16 * 1024;
/** Somebody who writes without pause would keep it busy for ever; the genuine program has no limit. */
const MAX_TRIES = 10_000;

/** `argv` begins with the mode. Rejects only with what interrupted it. */
export async function xenstore(io: Io, argv: readonly string[]): Promise<number> {
  const complain = (sentence: string): void => void io.stderr.write(latin1(`xenstore: ${sentence}\n`));
  try {
    return await runMode(io, argv.map(bytesOf), complain);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    complain(error.message);
    return 1;
  }
}

async function runMode(io: Io, argv: readonly string[], complain: (sentence: string) => void): Promise<number> {
  const [name, ...words] = argv;
  if (name === undefined) throw new Failure('Usage: xenstore <mode> [-h] [...]');
  const mode = Object.hasOwn(MODES, name) ? MODES[name] : undefined;
  if (mode === undefined) throw new Failure(`unknown mode ${name}\n`);
  const { options, operands, complaints } = getopt(words);
  for (const complaint of complaints) io.stderr.write(latin1(`${name}: ${complaint}\n`));
  const usage = new Failure(`Usage: xenstore ${name} ${mode.usage}`);
  for (const { flag } of options) if (flag !== 's' && !mode.flags.includes(flag)) throw usage;
  const tooFew = operands.length === 0 && name !== 'ls';
  if (tooFew || (name === 'write' && operands.length % 2 === 1)) throw usage;

  const store = await openStore(io);
  const printer = new Printer(io);
  try {
    const job: Job = {
      store,
      operands,
      switches: switchesOf(options),
      columns: io.stdout.isTTY ? io.stdout.columns : undefined,
      output: [],
      print: (text) => printer.add(text),
      complain,
    };
    const work = operands.length >= mode.transactionFrom ? inTransaction(mode.run, job) : mode.run(job);
    // Whatever interrupts it: the connection is closed below, which ends the work, too.
    work.catch(() => {});
    const code = await untilAborted(io.signal, work);
    printer.add(job.output.join(''));
    return code;
  } finally {
    printer.flush();
    await store.close();
  }
}

async function openStore({ env, clock, signal }: Io): Promise<StoreRequests> {
  try {
    return await StoreRequests.open({ env, clock, signal });
  } catch (error) {
    if (!isXenstoreError(error)) throw error;
    throw new Failure(`xs_open: ${strerror(error)}`);
  }
}

async function inTransaction(run: (job: Job) => Promise<0 | 1>, job: Job): Promise<0 | 1> {
  const { store, output } = job;
  for (let tries = 1; ; tries++) {
    await store.start().catch(() => {
      throw new Failure("couldn't start transaction");
    });
    const code = await run(job);
    try {
      await store.end(code === 0);
      return code;
    } catch (error) {
      if (code !== 0 || !isXenstoreError(error, 'EAGAIN') || tries === MAX_TRIES) {
        throw new Failure("couldn't end transaction");
      }
      output.length = 0;
    }
  }
}

function switchesOf(options: readonly Option[]): Switches {
  const has = (wanted: string): boolean => options.some(({ flag }) => flag === wanted);
  const number = options.findLast(({ flag }) => flag === 'n')?.argument;
  return {
    flat: has('f'),
    prefix: has('p'),
    tidy: has('t'),
    upto: has('u'),
    recurse: has('r'),
    raw: has('R'),
    number: number === undefined ? -1 : atoi(number),
  };
}

/** One character per byte. Node has put U+FFFD in place of bytes that are no UTF-8: what they were is lost. */
function bytesOf(argument: string): string {
  if (argument.includes('\ufffd')) {
    throw new Failure('an argument is not valid UTF-8: write such bytes as \\xNN');
  }
  return Buffer.from(argument, 'utf8').toString('latin1');
}

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

class Printer {
  readonly #io: Io;
  #text = '';
  #scheduled: NodeJS.Immediate | undefined;

  constructor(io: Io) {
    this.#io = io;
  }

  add(text: string): void {
    this.#text += text;
    if (this.#text.length >= BATCH_BYTES) this.flush();
    else this.#scheduled ??= setImmediate(() => this.flush());
  }

  flush(): void {
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    if (this.#text !== '') this.#io.stdout.write(latin1(this.#text));
    this.#text = '';
  }
}
