/**
 * A guest without a kernel: consoles take the lowest free line as hvc does, backends answer questions or do not, and
 * every byte an agent reads is accounted for.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { silentLogger } from '../../src/base/log.js';
import { GuestAgent, type GuestAgentOptions } from '../../src/guest/agent.js';
import { type HeldLine, LINE_COUNT, type LineView, type TtyLines } from '../../src/guest/lines.js';
import { FakeClock } from '../support/fake-clock.js';
import { FakeStore } from './fake-store.js';

/** One console behind a line, from its probe to its removal. */
export class FakeConsole {
  readonly input: number[] = [];
  opens = 0;
  raw = false;
  gone = false;
  /** Kernels before 6.7 leave the terminal alive when its console goes. */
  hangsUp = true;
  /** Another process has it open. */
  busy = false;
  constructor(
    readonly deviceId: number,
    readonly index: number,
  ) {}

  /** Bytes from the host. */
  send(text: string): void {
    this.input.push(...Buffer.from(text));
  }

  get unread(): string {
    return Buffer.from(this.input).toString('latin1');
  }
}

class FakeLine implements HeldLine {
  #open = true;
  constructor(
    readonly console: FakeConsole,
    readonly counted: boolean,
  ) {
    console.opens++;
  }
  get index(): number {
    return this.console.index;
  }
  async makeRaw(): Promise<void> {
    this.console.raw = true;
  }
  readByte(): number | undefined {
    if (!this.alive()) throw new Error('EIO');
    if (!this.console.raw) throw new Error('read before raw mode');
    return this.console.input.shift();
  }
  waiting(): number | undefined {
    return this.counted ? this.console.input.length : undefined;
  }
  alive(): boolean {
    return this.#open && !(this.console.gone && this.console.hangsUp);
  }
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    if (--this.console.opens === 0 && !this.console.busy) this.console.raw = false;
  }
}

export type Answers = 'always' | 'never' | 'takes-late';

export interface PlugOptions {
  readonly name?: string | Uint8Array;
  readonly type?: string;
  readonly answers?: Answers;
  readonly state?: string;
}

export class FakeGuest implements TtyLines {
  readonly store = new FakeStore();
  readonly clock = new FakeClock();
  readonly root = mkdtempSync(join(tmpdir(), 'xenchannel-guest-'));
  readonly slots: (FakeConsole | undefined)[] = new Array(LINE_COUNT).fill(undefined);
  /** Whether the lines can tell how many bytes wait (koffi is installed). */
  counted = true;
  #rings = 0;
  #nonces = 0;

  constructor({ primary = true }: { primary?: boolean } = {}) {
    mkdirSync(join(this.root, 'dev'), { recursive: true });
    if (primary) {
      this.store.put('console/port', '2');
      this.slots[0] = new FakeConsole(0, 0);
    }
    onTestFinished(() => rmSync(this.root, { recursive: true, force: true }));
  }

  /** Toolstack, kernel and backend at once: a console from nothing to Connected. */
  plug(
    deviceId: number,
    { name, type = 'xenchannel', answers = 'always', state = '4' }: PlugOptions = {},
  ): FakeConsole {
    const at = `device/console/${deviceId}`;
    const index = this.slots.indexOf(undefined);
    const console = new FakeConsole(deviceId, index);
    this.slots[index] = console;
    if (name !== undefined) this.store.nodes.set(`${at}/name`, Buffer.from(name));
    this.store.nodes.set(`${at}/type`, Buffer.from(type));
    this.store.nodes.set(`${at}/ring-ref`, Buffer.from(String(8 + this.#rings)));
    this.store.nodes.set(`${at}/port`, Buffer.from(String(20 + this.#rings++)));
    this.#serve(console, answers);
    this.store.put(`${at}/state`, state);
    return console;
  }

  #serve(console: FakeConsole, answers: Answers): void {
    const key = `device/console/${console.deviceId}/xenchannel-identify`;
    void this.store.watch(key, () => {
      const nonce = this.store.text(key);
      if (nonce === undefined || answers === 'never' || console.gone) return;
      if (answers === 'takes-late') this.clock.after(900, () => this.store.drop(key));
      else this.store.drop(key);
      if (answers === 'takes-late') this.clock.after(1_200, () => console.send(`XCID ${nonce}\n`));
      else console.send(`XCID ${nonce}\n`);
    });
  }

  unplug(deviceId: number): void {
    const console = this.slots.find((candidate) => candidate?.deviceId === deviceId && deviceId !== 0);
    if (console === undefined) return;
    console.gone = true;
    this.slots[console.index] = undefined;
    this.store.put(`device/console/${deviceId}/state`, '6');
    this.store.drop(`device/console/${deviceId}`);
  }

  async survey({ primary, kept }: { primary: boolean; kept: ReadonlySet<number> }): Promise<LineView[]> {
    return this.slots.map((console, index): LineView => {
      if (index === 0 && primary) return { index, state: 'reserved' };
      if (console?.busy && !kept.has(index))
        return { index, state: 'busy', reason: `hvc${index} is in use by process 7` };
      return { index, state: 'free' };
    });
  }

  async open(index: number): Promise<HeldLine | undefined> {
    const console = this.slots[index];
    return console === undefined ? undefined : new FakeLine(console, this.counted);
  }

  startAgent(options: GuestAgentOptions = {}): Promise<GuestAgent> {
    return this.drive(
      GuestAgent.start({
        store: this.store,
        root: this.root,
        clock: this.clock,
        log: silentLogger,
        random: (bytes) => Buffer.alloc(bytes, ++this.#nonces),
        options: { lines: this, ...options },
      }),
    );
  }

  /** Lets time pass until `promise` is settled. */
  async drive<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const settled = promise.finally(() => {
      done = true;
    });
    settled.catch(() => {});
    while (!done) {
      await new Promise((turn) => setImmediate(turn));
      this.clock.advance(1);
    }
    return settled;
  }

  /** Lets the agent see what happened and act. */
  async settle(agent: GuestAgent): Promise<void> {
    await new Promise((turn) => setImmediate(turn));
    await this.drive(agent.settled());
  }
}
