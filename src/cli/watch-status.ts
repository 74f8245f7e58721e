/** A status that goes on: looks again when the daemon tells an event, and every second for what moves without one. */
import { pause } from '../dom0/figures.js';
import { followEvents } from '../dom0/follow-events.js';
import { type Status, status } from '../dom0/status.js';
import { dom0EnvironmentOf, withStore } from './context.js';
import type { Io } from './io.js';
import { printLine } from './output.js';
import { channelLine } from './status-view.js';

const LOOK_EVERY_MS = 1000;
/** Events come in groups; more looks than this are only a burden. */
const MIN_PAUSE_MS = 100;
const CLEAR_SCREEN = '\x1b[H\x1b[J';

type Wanted = { readonly domain: string | undefined; readonly name: string | undefined };

export interface WatchOptions {
  readonly json: boolean;
  /** The whole of it, for a terminal. */
  readonly draw: (found: Status) => readonly string[];
}

/** Until it is interrupted, which is its orderly end. */
export async function watchStatus(io: Io, wanted: Wanted, options: WatchOptions): Promise<void> {
  const told = new Map<string, string>();
  const wakeups = new Wakeups(io);
  try {
    await withStore(io, async (store) => {
      for (;;) {
        const found = await status(store, wanted, dom0EnvironmentOf(io));
        if (io.stdout.isTTY === true && !options.json) drawScreen(io, options.draw(found));
        else tellChanges(io, found, told, options.json);
        await pause(io.clock, MIN_PAUSE_MS, io.signal);
        await wakeups.next();
      }
    });
  } catch (error) {
    if (!io.signal.aborted) throw error;
  }
}

function drawScreen(io: Io, lines: readonly string[]): void {
  io.stdout.write(`${CLEAR_SCREEN}${lines.map((line) => `${line}\n`).join('')}`);
}

/** What has not changed is not said again; what has gone is said once. */
function tellChanges(io: Io, { channels }: Status, told: Map<string, string>, json: boolean): void {
  const at = new Date(io.clock.now()).toISOString();
  const present = new Set<string>();
  for (const channel of channels) {
    const key = `${channel.domid}/${channel.deviceId} ${channel.uuid}`;
    present.add(key);
    const text = json ? JSON.stringify(channel) : channelLine(channel);
    if (told.get(key) === text) continue;
    told.set(key, text);
    printLine(io, json ? `{"at":"${at}",${text.slice(1)}` : `${at}  ${text}`);
  }
  for (const key of [...told.keys()].filter((one) => !present.has(one))) {
    const [address = ''] = key.split(' ');
    const [domid, deviceId] = address.split('/').map(Number);
    told.delete(key);
    printLine(io, json ? JSON.stringify({ at, domid, deviceId, gone: true }) : `${at}  ${address}: gone`);
  }
}

/** Wakes whoever waits when the daemon tells an event. Without a daemon there are none; it is tried again later. */
class Wakeups {
  readonly #io: Io;
  #wake = (): void => {};
  #following = false;

  constructor(io: Io) {
    this.#io = io;
  }

  /** At the next event or after a second. */
  async next(): Promise<void> {
    if (!this.#following) void this.#follow();
    const over = new AbortController();
    const event = new Promise<void>((settle) => {
      this.#wake = settle;
    });
    const second = pause(this.#io.clock, LOOK_EVERY_MS, AbortSignal.any([this.#io.signal, over.signal]));
    // It loses the race where an event comes first.
    second.catch(() => {});
    await Promise.race([event, second]);
    over.abort(new Error('an event came'));
  }

  async #follow(): Promise<void> {
    this.#following = true;
    try {
      for await (const _ of followEvents(dom0EnvironmentOf(this.#io), { signal: this.#io.signal })) this.#wake();
    } catch {
      // No daemon, or it has gone: the status says so.
    } finally {
      this.#following = false;
    }
  }
}
