/** How the agent listens for answers, on lines that say when there is something to read. */
import { expect, it } from 'vitest';
import { silentLogger } from '../../src/base/log.js';
import type { HeldLine } from '../../src/guest/lines.js';
import { prove } from '../../src/guest/prove.js';
import { FakeClock } from '../support/fake-clock.js';
import { FakeStore } from './fake-store.js';

const KEY = 'device/console/1/xenchannel-identify';
/** A 16-byte nonce of zeros. */
const ANSWER = `XCID ${'0'.repeat(32)}\n`;

class SpeakingLine implements HeldLine {
  readonly index = 1;
  input: number[] = [];
  wakes = 0;
  waits = 0;
  #listener: (() => void) | undefined;
  /** As the kernel has it: whoever begins to wait is told at once of what is there already. */
  constructor(readonly alwaysReady = false) {}

  send(text: string): void {
    this.input.push(...Buffer.from(text));
    this.#tell();
  }
  whenReadable(fn: () => void): () => void {
    this.waits++;
    this.#listener = fn;
    if (this.alwaysReady || this.input.length > 0) setImmediate(() => this.#tell());
    return () => {
      this.#listener = undefined;
    };
  }
  #tell(): void {
    const listener = this.#listener;
    this.#listener = undefined;
    if (listener === undefined) return;
    this.wakes++;
    listener();
  }
  readByte(): number | undefined {
    return this.input.shift();
  }
  waiting(): number {
    return this.input.length;
  }
  async makeRaw(): Promise<void> {}
  alive(): boolean {
    return true;
  }
  close(): void {}
}

function start(line: SpeakingLine) {
  const store = new FakeStore();
  store.put('device/console/1/state', '4');
  const clock = new FakeClock();
  const found = prove([1], [line], new Map(), {
    store,
    clock,
    log: silentLogger,
    random: (bytes) => Buffer.alloc(bytes),
    timeoutMs: 1000,
    signal: new AbortController().signal,
  });
  return { store, clock, found };
}

/** Lets everything happen that needs no time to pass. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise((done) => setImmediate(done));
}

it('an answer is taken as soon as the line says so: no time passes', async () => {
  const line = new SpeakingLine();
  const { clock, found } = start(line);
  await settle();
  const before = clock.now();
  line.send(`${ANSWER}more`);
  expect([...(await found)]).toEqual([[1, line]]);
  expect(clock.now()).toBe(before);
  expect(Buffer.from(line.input).toString()).toBe('more');
});

it('an answer that comes in pieces is taken once it is whole', async () => {
  const line = new SpeakingLine();
  const { clock, found } = start(line);
  for (const piece of [ANSWER.slice(0, 10), ANSWER.slice(10, 30), ANSWER.slice(30)]) {
    await settle();
    line.send(piece);
  }
  await settle();
  clock.advance(5);
  expect([...(await found)]).toEqual([[1, line]]);
  expect(line.wakes).toBeLessThanOrEqual(16);
});

it('a line that is ready all the time and has no answer does not keep the agent busy', async () => {
  const line = new SpeakingLine(true);
  const { store, clock, found } = start(line);
  await settle();
  expect(line.wakes).toBe(16);
  for (let at = 0; at < 1100; at += 5) {
    clock.advance(5);
    await new Promise((done) => setImmediate(done));
  }
  expect(await found).toEqual(new Map());
  expect(line.wakes).toBe(16);
  expect(store.text(KEY)).toBeUndefined();
});
