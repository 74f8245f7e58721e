/**
 * Proves which terminal line belongs to which console: the guest writes a nonce under its own frontend, the backend
 * answers `XCID <nonce>` on that console's ring, and the line on which the answer arrives is the one. Only this side
 * can start it. Takes from a line what belongs to an answer and not one byte more. Knows no link and no name.
 */

import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store } from '../../xenstore/index.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import { IDENTIFY_ANSWER_PREFIX, KEY } from '../console/layout.js';
import { ownConsole } from './frontend.js';
import type { HeldLine } from './lines.js';

/** Random bytes; 32 hex digits as text. */
const NONCE_BYTES = 16;
const ANSWER_BYTES = IDENTIFY_ANSWER_PREFIX.length + 2 * NONCE_BYTES + 1;
/** More unanswered questions than that are not remembered. */
const MAX_EXPECTED = 64;
/** Between two looks at a line that cannot say by itself that something has come. */
const POLL_MS = 5;
/** A line that said so more often than this and had no answer is looked at from time to time only: it would not stop. */
const MAX_FRUITLESS_WAKES = 16;

export interface ProveOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: (bytes: number) => Uint8Array;
  /** How long an answer may take. */
  readonly timeoutMs: number;
  /** Gives up early, and takes the questions back. */
  readonly signal: AbortSignal;
}

/** Answers that may still arrive, with the console each stands for. A nonce the backend took stays expected. */
export type Expected = Map<string, number>;

/** What one line has said so far, compared with the answers that may come. */
class Listener {
  #heard = '';
  #deaf = false;
  #wakes = 0;
  constructor(readonly line: HeldLine) {}

  /** Nothing that this line says can be an answer any more. */
  get deaf(): boolean {
    return this.#deaf;
  }

  /** Calls `fn` when there is something to hear; undefined: one has to look from time to time. */
  whenReadable(fn: () => void): (() => void) | undefined {
    if (this.#wakes >= MAX_FRUITLESS_WAKES) return undefined;
    return this.line.whenReadable?.(() => {
      this.#wakes++;
      fn();
    });
  }

  /** The console whose answer is complete, if one is. Stops at its newline: what follows is the application's. */
  hear(expected: Expected): number | undefined {
    // Where bytes can be counted, none is taken before a whole answer is there.
    const waiting = this.line.waiting();
    if (waiting !== undefined && this.#heard === '' && waiting < ANSWER_BYTES) return undefined;
    while (!this.#deaf) {
      const byte = this.#read();
      if (byte === undefined) return undefined;
      this.#heard += String.fromCharCode(byte);
      const answer = [...expected.keys()].find((candidate) => candidate.startsWith(this.#heard));
      if (answer === undefined) this.#deaf = true;
      else if (answer === this.#heard) return expected.get(answer);
    }
    return undefined;
  }

  #read(): number | undefined {
    try {
      return this.line.readByte();
    } catch {
      this.#deaf = true; // hung up: the agent sees that by itself
      return undefined;
    }
  }

  /** Bytes that were no answer: they were meant for an application, which will not see them. */
  get takenBytes(): number {
    return this.#heard.length;
  }
}

const answerTo = (nonce: string): string => `${IDENTIFY_ANSWER_PREFIX}${nonce}\n`;

/** Waits until there may be something to hear, or `endMs`, or `signal`. */
function pause(listeners: Iterable<Listener>, endMs: number, { clock, signal }: ProveOptions): Promise<void> {
  return new Promise((done) => {
    const ends: (() => void)[] = [];
    const finish = (): void => {
      for (const end of ends) end();
      done();
    };
    let delayMs = Math.max(0, endMs - clock.now());
    for (const listener of listeners) {
      if (listener.deaf) continue;
      const end = listener.whenReadable(finish);
      if (end === undefined) delayMs = Math.min(delayMs, POLL_MS);
      else ends.push(end);
    }
    const timer = clock.after(delayMs, finish);
    signal.addEventListener('abort', finish);
    ends.push(
      () => timer.cancel(),
      () => signal.removeEventListener('abort', finish),
    );
  });
}

/** Writes a fresh nonce; false if the console has gone or does not let us. */
async function ask(deviceId: number, expected: Expected, { store, random }: ProveOptions): Promise<boolean> {
  const nonce = Buffer.from(random(NONCE_BYTES)).toString('hex');
  const [oldest] = expected.keys();
  if (expected.size >= MAX_EXPECTED && oldest !== undefined) expected.delete(oldest);
  expected.set(answerTo(nonce), deviceId);
  try {
    // Inside a transaction, so that a console that has just gone is not made again as a directory with this one key.
    return await store.transaction(async (tx) => {
      if (!(await tx.exists(`${ownConsole(deviceId)}/state`))) return false;
      await tx.write(`${ownConsole(deviceId)}/${KEY.identify}`, nonce);
      return true;
    });
  } catch (error) {
    if (isXenstoreError(error, 'ENOENT', 'EACCES')) return false;
    throw error;
  }
}

/**
 * Takes the question back. False if it was gone: then the backend has taken it, and its answer is on the way; to stop
 * listening now would leave the answer to the application.
 */
async function withdraw(deviceId: number, { store }: ProveOptions): Promise<boolean> {
  const path = `${ownConsole(deviceId)}/${KEY.identify}`;
  try {
    return await store.transaction(async (tx) => {
      if (!(await tx.exists(path))) return false;
      await tx.rm(path);
      return true;
    });
  } catch (error) {
    if (isXenstoreError(error, 'ENOENT', 'EACCES')) return true;
    throw error;
  }
}

/** Listens until every console in `waiting` has answered or `timeoutMs` have passed. Removes from `waiting`. */
async function listen(
  waiting: Set<number>,
  listeners: Map<number, Listener>,
  expected: Expected,
  found: Map<number, HeldLine>,
  options: ProveOptions,
): Promise<void> {
  const endMs = options.clock.now() + options.timeoutMs;
  while (waiting.size > 0) {
    for (const [index, listener] of listeners) {
      if (waiting.size === 0) return;
      const deviceId = listener.hear(expected);
      if (deviceId === undefined) continue;
      listeners.delete(index);
      found.set(deviceId, listener.line);
      waiting.delete(deviceId);
    }
    if (waiting.size === 0 || options.signal.aborted || options.clock.now() >= endMs) return;
    await pause(listeners.values(), endMs, options);
  }
}

/**
 * Asks all `deviceIds` at once and returns the line of each that answered. `lines` are raw, held by us and used by
 * nobody. `expected` carries questions over from one try to the next.
 */
export async function prove(
  deviceIds: readonly number[],
  lines: readonly HeldLine[],
  expected: Expected,
  options: ProveOptions,
): Promise<Map<number, HeldLine>> {
  const found = new Map<number, HeldLine>();
  const listeners = new Map(lines.map((line) => [line.index, new Listener(line)]));
  const waiting = new Set<number>();
  for (const deviceId of deviceIds) if (await ask(deviceId, expected, options)) waiting.add(deviceId);
  await listen(waiting, listeners, expected, found, options);
  const late = new Set<number>();
  for (const deviceId of waiting) if (!(await withdraw(deviceId, options))) late.add(deviceId);
  if (late.size > 0) await listen(late, listeners, expected, found, options);
  for (const [index, { takenBytes }] of listeners) {
    if (takenBytes > 0) options.log.log('warn', 'bytes on a line were no answer', { line: index, takenBytes });
  }
  return found;
}
