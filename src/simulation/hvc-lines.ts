/**
 * Which console is behind which /dev/hvcX: the slots of Linux's hvc driver, with their surprises (an id that collides
 * makes a dead console; removing that one frees the slot of the good one). Source: linux:drivers/tty/hvc/hvc_console.c
 * (hvc_alloc, hvc_remove).
 */
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { HvcConsole } from './hvc-console.js';
import type { TtyMaker } from './tty-port.js';

/** HVC_COOKIE, "Xen": the primary console; console N has the cookie plus N. */
export const HVC_COOKIE = 0x58656e;
/** MAX_NR_HVC_CONSOLES. */
const SLOTS = 16;
/** HVC_ALLOC_TTY_ADAPTERS: only so many lines can be opened. */
const LINES = 8;

interface Entry {
  readonly console: HvcConsole;
  readonly index: number;
}

export class HvcLines {
  readonly #deviceDirectory: string;
  readonly #ttys: TtyMaker;
  /** vtermno of each slot; undefined is free. */
  readonly #slots: (number | undefined)[] = new Array(SLOTS).fill(undefined);
  /** In order of allocation: a line reaches the first one with its index. */
  #entries: Entry[] = [];
  #lastIndex = SLOTS - 1;

  /** Links appear in `deviceDirectory`. */
  constructor(deviceDirectory: string, ttys: TtyMaker) {
    this.#deviceDirectory = deviceDirectory;
    this.#ttys = ttys;
    mkdirSync(deviceDirectory, { recursive: true });
  }

  /** Gives the console an index and, if it is the one that the line of this index reaches, the line. */
  allocate(console: HvcConsole): number {
    let index = this.#slots.indexOf(console.vtermno);
    if (index < 0) index = this.#slots.indexOf(undefined);
    if (index < 0) index = ++this.#lastIndex;
    else this.#slots[index] = console.vtermno;
    this.#entries.push({ console, index });
    this.#connectLine(index);
    return index;
  }

  /** The console is gone for its applications; the slot is free for the next one. */
  remove(console: HvcConsole): void {
    const entry = this.#entries.find((candidate) => candidate.console === console);
    if (entry === undefined) return;
    this.#entries = this.#entries.filter((candidate) => candidate !== entry);
    if (entry.index < SLOTS) this.#slots[entry.index] = undefined;
    if (console.tty !== undefined) rmSync(this.#link(entry.index), { force: true });
    console.hangUp();
    this.#connectLine(entry.index);
  }

  removeAll(): void {
    for (const { console } of [...this.#entries]) this.remove(console);
  }

  #connectLine(index: number): void {
    if (index >= LINES) return;
    const reached = this.#entries.find((entry) => entry.index === index)?.console;
    if (reached === undefined || reached.tty !== undefined) return;
    const { path } = reached.attachTty(this.#ttys);
    if (path === undefined) return;
    rmSync(this.#link(index), { force: true });
    symlinkSync(path, this.#link(index));
  }

  #link(index: number): string {
    return join(this.#deviceDirectory, `hvc${index}`);
  }
}
