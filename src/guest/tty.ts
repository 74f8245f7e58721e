/**
 * The guest's terminal lines as the operating system shows them: `<root>/dev/hvc0` to `hvc7`. Opens, reads single bytes,
 * probes; decides nothing.
 */
import { close, closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import type { Clock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import { type DescriptorPoll, pollDescriptor } from '../sys/poll.js';
import { type RawCalls, rawCalls } from '../sys/termios.js';
import { waitingBytes } from '../sys/waiting.js';
import { findHolders } from './holders.js';
import { type HeldLine, LINE_COUNT, type LineView, type TtyLines } from './lines.js';
import { makeRaw } from './raw-mode.js';

/** O_NOCTTY: an agent without a terminal would otherwise get this one, with its hang-ups and its ^C. */
const OPEN_FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;

/** What open says when no console is behind a line; seen on Linux 6.1: ENODEV. */
const NOTHING_THERE: ReadonlySet<string> = new Set(['ENODEV', 'ENXIO', 'ENOENT', 'EIO']);

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown';

/** How terminals are dealt with; without `calls` by what every system has: stty, and looking from time to time. */
interface Means {
  readonly clock: Clock;
  readonly calls: RawCalls | undefined;
}

class OpenTerminal implements HeldLine {
  readonly index: number;
  readonly #path: string;
  readonly #means: Means;
  readonly #byte = Buffer.alloc(1);
  readonly #polls = new Set<DescriptorPoll>();
  #fd: number | undefined;

  constructor(index: number, path: string, fd: number, means: Means) {
    this.index = index;
    this.#path = path;
    this.#fd = fd;
    this.#means = means;
  }

  async makeRaw(): Promise<void> {
    if (this.#fd !== undefined) await makeRaw(this.#fd, this.#path, this.#means);
  }

  readByte(): number | undefined {
    if (this.#fd === undefined) throw this.#hungUp('closed');
    try {
      if (readSync(this.#fd, this.#byte, 0, 1, null) === 1) return this.#byte[0];
    } catch (error) {
      if (codeOf(error) === 'EAGAIN') return undefined;
      throw this.#hungUp(codeOf(error));
    }
    throw this.#hungUp('end of file');
  }

  waiting(): number | undefined {
    return this.#fd === undefined || this.#means.calls === undefined ? undefined : waitingBytes(this.#fd);
  }

  whenReadable(fn: () => void): (() => void) | undefined {
    if (this.#fd === undefined || this.#means.calls === undefined) return undefined;
    const poll = pollDescriptor(this.#fd, { readable: true, disconnect: true }, () => {
      end();
      fn();
    });
    const end = (): void => {
      poll.close();
      this.#polls.delete(poll);
    };
    this.#polls.add(poll);
    return end;
  }

  alive(): boolean {
    if (this.#fd === undefined) return false;
    try {
      // A write of nothing reaches no driver, but fails with EIO once the terminal has hung up
      // (linux:drivers/tty/tty_io.c, hung_up_tty_write; n_tty.c, n_tty_write).
      writeSync(this.#fd, this.#byte, 0, 0);
      return true;
    } catch (error) {
      return codeOf(error) === 'EAGAIN';
    }
  }

  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    for (const poll of this.#polls) poll.close();
    this.#polls.clear();
    // Not closeSync: the last close waits up to a second for output to drain (hvc_console.c, hvc_close).
    if (fd !== undefined) close(fd, () => {});
  }

  #hungUp(why: string): ChannelError {
    return new ChannelError('system-call-failed', `reading from ${this.#path} failed: ${why}`, { path: this.#path });
  }
}

export interface SystemLinesOptions {
  readonly root: string;
  readonly clock: Clock;
  /** Where processes are listed. */
  readonly proc: string;
  /** Processes that do not count as users of a line. */
  readonly ignoredPids: ReadonlySet<number>;
  /** Whether system calls may be made that Node does not offer. Default: where koffi is installed. */
  readonly nativeCalls?: boolean;
}

export class SystemLines implements TtyLines {
  readonly #options: SystemLinesOptions;
  readonly #means: Means;

  constructor(options: SystemLinesOptions) {
    this.#options = options;
    this.#means = { clock: options.clock, calls: options.nativeCalls === false ? undefined : rawCalls() };
  }

  #path(index: number): string {
    return join(this.#options.root, 'dev', `hvc${index}`);
  }

  async survey({ primary, kept }: { primary: boolean; kept: ReadonlySet<number> }): Promise<LineView[]> {
    const reserved = await this.#reserved(primary);
    const devices = new Map<number, string>();
    for (let index = 0; index < LINE_COUNT; index++) {
      const real = await realpath(this.#path(index)).catch(() => undefined);
      if (real !== undefined) devices.set(index, real);
    }
    // Only of these lines is it to be known who else has them; a search through all processes is not made for less.
    const doubtful = [...devices].filter(([index]) => !reserved.has(index) && !kept.has(index));
    const { proc, ignoredPids: ignored } = this.#options;
    const holders = await findHolders(new Set(doubtful.map(([, device]) => device)), { proc, ignored });
    return Array.from({ length: LINE_COUNT }, (_, index): LineView => {
      const reason = reserved.get(index);
      if (reason !== undefined) return { index, state: 'reserved', reason };
      const device = devices.get(index);
      if (device === undefined) return { index, state: 'absent' };
      const holder = holders.get(device);
      if (holder === undefined || kept.has(index)) return { index, state: 'free' };
      return { index, state: 'busy', reason: `hvc${index} is in use by process ${holder.pid} (${holder.command})` };
    });
  }

  async open(index: number): Promise<HeldLine | undefined> {
    const path = this.#path(index);
    try {
      return new OpenTerminal(index, path, this.#openTerminal(path), this.#means);
    } catch (error) {
      if (error instanceof ChannelError) throw error;
      if (NOTHING_THERE.has(codeOf(error))) return undefined;
      throw new ChannelError(
        'system-call-failed',
        `${path} cannot be opened: ${codeOf(error)}`,
        { path },
        { cause: error },
      );
    }
  }

  #openTerminal(path: string): number {
    const fd = openSync(path, OPEN_FLAGS);
    try {
      // A regular file in the place of a device would take every write without a word.
      if (isatty(fd)) return fd;
      throw new ChannelError('system-call-failed', `${path} is no terminal; it is left alone`, { path });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /**
   * Lines that are no channel's, with the reason: the primary console, and those that the kernel writes its own messages
   * to (`console=hvc1` on the command line makes a login prompt, too).
   */
  async #reserved(primary: boolean): Promise<Map<number, string>> {
    const path = join(this.#options.root, 'sys/class/tty/console/active');
    const names = (await readFile(path, 'utf8').catch(() => '')).split(/\s+/);
    const indices = names.filter((name) => /^hvc[0-7]$/.test(name)).map((name) => Number(name.slice(3)));
    const reserved = new Map(indices.map((index) => [index, `hvc${index} is a kernel console`]));
    if (primary) reserved.set(0, 'hvc0 is the primary console');
    return reserved;
  }
}
