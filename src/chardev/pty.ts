/**
 * A chardev that is a terminal line: a raw PTY behind a lasting link, for programs that want a tty (minicom, screen, a
 * getty, `xl console`). Whoever opens it is the client. Knows nothing of rings.
 *
 * A PTY lives as long as its master, and that dies with the daemon: on a restart clients get a hang-up (end of file or
 * EIO) and open the path again. The link goes in every orderly end, since a link to a PTY that is no more soon leads to
 * somebody else's terminal. Two programs that have it open share the bytes, as on any serial line.
 */
import { chmodSync, chownSync } from 'node:fs';
import type { Clock } from '../base/clock.js';
import { type Logger, silentLogger } from '../base/log.js';
import { gidOf, uidOf } from '../sys/accounts.js';
import type { PollEvents } from '../sys/poll.js';
import { Pty } from '../sys/pty.js';
import { PtySlave } from '../sys/pty-slave.js';
import type { Chardev, ChardevEvents, CloseOptions } from './chardev.js';
import { watchLine } from './line-watch.js';
import { linkPty, type PtyLink } from './pty-link.js';

export interface PtyChardevOptions {
  /** Where the link to the PTY stands. */
  readonly path: string;
  readonly mode?: number;
  /** Names or numbers. */
  readonly owner?: string;
  readonly group?: string;
  readonly makeBelow?: string;
  readonly clock: Clock;
  readonly log?: Logger;
}

export const DEFAULT_PTY_MODE = 0o660;
/** What a client can have written at the very end: the kernel holds about 16 KiB of it, and then the client waits. */
export const MAX_LAST_INPUT_BYTES = 1024 * 1024;
/** More than the kernel gives at once. */
const READ_BYTES = 8192;
/** How often a closing line is asked whether its reader has got everything: nothing tells. */
const LINGER_LOOK_MS = 20;
const NOTHING = Buffer.alloc(0);
/** For all lines: whoever keeps bytes copies them. */
const readBuffer = new Uint8Array(READ_BYTES);

export class PtyChardev implements Chardev {
  readonly label: string;
  readonly viewed = false;
  readonly #options: PtyChardevOptions;
  readonly #log: Logger;
  #events: ChardevEvents | undefined;
  #pty: Pty | undefined;
  #link: PtyLink | undefined;
  #poll: { want(interest: { readable: boolean; writable: boolean }): void } | undefined;
  #stopWatching: () => void = () => {};
  #state: 'open' | 'closing' | 'closed' = 'open';
  #connected = false;
  #paused = false;
  #writeBlocked = false;
  #wanted = '';
  #figures = {
    bytesToClient: 0,
    bytesFromClient: 0,
    /** Since the line was opened by somebody and nobody had it open before. */
    bytesFromWriter: 0,
    clients: 0,
    inputDroppedBytes: 0,
    modeResets: 0,
  };

  constructor(options: PtyChardevOptions) {
    this.#options = options;
    this.#log = (options.log ?? silentLogger).with({ path: options.path });
    this.label = `pty:${options.path}`;
  }

  get connected(): boolean {
    return this.#connected;
  }

  get tty(): string | undefined {
    return this.#pty?.slavePath;
  }

  async open(events: ChardevEvents): Promise<void> {
    if (this.#state !== 'open') return;
    const { path, makeBelow } = this.#options;
    // Nobody has the slave open while there is no client: only so does the kernel tell when one comes and goes. What
    // stands in the line survives that, and the settings too.
    const pty = new Pty({ mode: 'raw', holdSlave: false });
    try {
      this.#admitOnly(pty.slavePath);
      this.#stopWatching = watchLine(pty.slavePath, () => this.#safely(() => this.#lookAgain()));
      this.#link = linkPty({ path, target: pty.slavePath, makeBelow });
    } catch (error) {
      this.#stopWatching();
      pty.close();
      throw error;
    }
    this.#events = events;
    this.#pty = pty;
    this.#poll = pty.watch((ready) => this.#safely(() => this.#onPoll(ready)));
    this.#log.log('info', 'PTY made', { tty: pty.slavePath });
  }

  write(bytes: Uint8Array): number {
    if (this.#pty === undefined || !this.#connected) return 0;
    let taken = 0;
    while (taken < bytes.length) {
      const count = this.#pty.write(bytes.subarray(taken));
      if (count === 0) break;
      taken += count;
    }
    this.#figures.bytesToClient += taken;
    this.#writeBlocked = taken < bytes.length;
    this.#updatePoll();
    return taken;
  }

  show(): void {}

  pauseInput(): void {
    this.#paused = true;
    this.#updatePoll();
  }

  resumeInput(): void {
    if (!this.#paused) return;
    this.#paused = false;
    queueMicrotask(() =>
      this.#safely(() => {
        if (this.#state !== 'open' || this.#paused) return;
        if (this.#connected) this.#readOnce();
        else this.#readRest();
        this.#updatePoll();
      }),
    );
  }

  async close({ tail = NOTHING, lingerMs = 0 }: CloseOptions = {}): Promise<Uint8Array> {
    if (this.#state !== 'open') return NOTHING;
    this.#state = 'closing';
    this.#link?.remove();
    if (this.#pty === undefined) {
      this.#state = 'closed';
      return tail;
    }
    try {
      const written = lingerMs > 0 ? await this.#linger(this.#pty, tail, lingerMs) : 0;
      // A crash that was simulated meanwhile.
      if (this.#isOver()) return NOTHING;
      const unread = withSlave(this.#pty, (slave) => {
        slave.stopWriters();
        this.#readRest();
        slave.setMode('raw');
        return slave.takeUnread();
      });
      this.#figures.bytesToClient -= unread.length;
      return Buffer.concat([unread, tail.subarray(written)]);
    } finally {
      this.#letGo();
    }
  }

  abandon(): void {
    this.#letGo();
  }

  figures(): Readonly<Record<string, number | string | boolean>> {
    return { connected: this.connected, tty: this.tty ?? '', ...this.#figures };
  }

  /** The group is our own unless another is asked for: devpts gives it to `tty`, which write(1) has. */
  #admitOnly(slavePath: string): void {
    const { mode = DEFAULT_PTY_MODE, owner, group } = this.#options;
    const uid = uidOf(owner);
    const gid = gidOf(group);
    chownSync(slavePath, uid, gid === -1 ? (process.getegid?.() ?? -1) : gid);
    chmodSync(slavePath, mode);
  }

  #onPoll(ready: PollEvents): void {
    if (this.#state !== 'open' || this.#pty === undefined) return;
    if (ready.readable && !this.#paused && this.#readOnce() === 'hung-up') this.#lookAgain();
    if (ready.disconnect) this.#lookAgain();
    if (ready.writable && this.#connected && this.#writeBlocked) {
      this.#writeBlocked = false;
      this.#events?.onWritable();
    }
    this.#updatePoll();
  }

  /** Somebody opened or closed the line, perhaps both since the last look. */
  #lookAgain(): void {
    if (this.#state !== 'open' || this.#pty === undefined) return;
    const present = this.#pty.isSlaveOpen();
    if (present && !this.#connected) {
      this.#connected = true;
      this.#figures.clients++;
      this.#figures.bytesFromWriter = 0;
      this.#events?.onClient(true);
    } else if (!present) {
      // Also of one who came and went between two looks.
      this.#readRest();
      this.#tidyUp(this.#pty);
    }
    this.#updatePoll();
  }

  /**
   * After the last client: what it has not read comes back, and the line is raw again whatever it was set to, or the
   * next bytes of the guest would be echoed to it. This opens the line and so makes us look again: hence only when there
   * is something to do.
   */
  #tidyUp(pty: Pty): void {
    const altered = pty.mode !== 'raw';
    if (!this.#connected && !altered) return;
    const unread = withSlave(pty, (slave) => {
      slave.setMode('raw');
      return slave.takeUnread();
    });
    if (altered) this.#figures.modeResets++;
    this.#writeBlocked = false;
    this.#figures.bytesToClient -= unread.length;
    const wasConnected = this.#connected;
    this.#connected = false;
    if (unread.length > 0) this.#events?.onReturned(unread);
    if (wasConnected) this.#events?.onClient(false);
  }

  /**
   * What one read gives, at most 4 KiB: others get their turn, and so does the kernel's worker that brings the next bytes.
   * Reading on until nothing is left halves the speed (measured on Linux 6.18).
   */
  #readOnce(): 'hung-up' | 'more' | 'all' {
    const count = this.#pty?.read(readBuffer) ?? 0;
    if (count === 'hung-up') return count;
    if (count === 0) return 'all';
    this.#figures.bytesFromClient += count;
    this.#figures.bytesFromWriter += count;
    this.#events?.onInput(readBuffer.subarray(0, count));
    return 'more';
  }

  /** All that is there, while nobody can write any more; a session that has enough gets it later, or at the end. */
  #readRest(): void {
    const upTo = this.#figures.bytesFromClient + MAX_LAST_INPUT_BYTES;
    while (this.#figures.bytesFromClient < upTo && (!this.#paused || this.#state === 'closing')) {
      if (this.#readOnce() !== 'more') return;
    }
  }

  /** Gives the client the tail and the time to read it; returns how much of the tail is in the line. */
  async #linger(pty: Pty, tail: Uint8Array, lingerMs: number): Promise<number> {
    const { clock } = this.#options;
    const endMs = clock.now() + lingerMs;
    let written = 0;
    while (!this.#isOver() && this.#connected && pty.isSlaveOpen()) {
      written += this.write(tail.subarray(written));
      const read = written === tail.length && !withSlave(pty, (slave) => slave.hasUnread());
      if (read || clock.now() >= endMs) break;
      await new Promise<void>((settle) => {
        clock.after(Math.min(LINGER_LOOK_MS, Math.max(1, endMs - clock.now())), settle);
      });
    }
    return written;
  }

  #isOver(): boolean {
    return this.#state === 'closed';
  }

  #letGo(): void {
    if (this.#isOver()) return;
    const wasConnected = this.#connected;
    const orderly = this.#state === 'closing';
    this.#state = 'closed';
    this.#connected = false;
    this.#stopWatching();
    this.#pty?.close();
    this.#pty = undefined;
    if (orderly && wasConnected) this.#events?.onClient(false);
  }

  /** While nobody has the line open, a poll would call back without end. */
  #updatePoll(): void {
    if (this.#state === 'closed') return;
    const readable = this.#connected && !this.#paused && this.#state === 'open';
    const writable = this.#connected && this.#writeBlocked && this.#state === 'open';
    const wanted = `${readable}${writable}`;
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    this.#poll?.want({ readable, writable });
  }

  #safely(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#events?.onFailure(error instanceof Error ? error : new Error(String(error)));
    }
  }
}

function withSlave<T>(pty: Pty, use: (slave: PtySlave) => T): T {
  const slave = new PtySlave(pty.slavePath);
  try {
    return use(slave);
  } finally {
    slave.close();
  }
}
