/**
 * Answers that go on: events as JSON lines, a guest's output as it is. Each listener has a bound of its own; who is too
 * slow misses events, which is said, or is cut off. Never waits for a listener.
 */
import type { ServerResponse } from 'node:http';
import type { HistoryPiece } from '../chardev/history.js';
import type { ChannelEvent, EventLog } from './events.js';
import type { OutputFeed } from './output-feed.js';

/** What may wait for one listener, besides what the kernel holds. */
export const MAX_WAITING_EVENT_BYTES = 64 * 1024;
export const MAX_WAITING_OUTPUT_BYTES = 256 * 1024;
/** One for each command that somebody left open in a terminal, and some. */
export const MAX_STREAMS = 32;
/** How long the last lines may take when the daemon stops. */
const FINISH_MS = 500;

/** All open streams of one control socket. */
export class Streams {
  readonly #open = new Map<ServerResponse, () => void>();
  #refused = 0;
  #missedEvents = 0;

  get count(): number {
    return this.#open.size;
  }

  get refused(): number {
    return this.#refused;
  }

  get missedEvents(): number {
    return this.#missedEvents;
  }

  countMissed(): void {
    this.#missedEvents++;
  }

  /** False: there are too many already. `end` takes back what the stream holds. */
  add(response: ServerResponse, end: () => void): boolean {
    if (this.#open.size >= MAX_STREAMS) {
      this.#refused++;
      return false;
    }
    this.#open.set(response, end);
    response.on('close', () => this.#remove(response));
    // A listener that resets its connection is gone, that is all.
    response.on('error', () => this.#remove(response));
    return true;
  }

  /** Ends them all in order; resolves when the last lines are out, or after a moment. */
  async finish(): Promise<void> {
    const responses = [...this.#open.keys()];
    for (const response of responses) this.#remove(response);
    await Promise.all(responses.map(finished));
  }

  #remove(response: ServerResponse): void {
    this.#open.get(response)?.();
    this.#open.delete(response);
  }
}

/** Wall time, as the peer sees it: a fake clock must not keep a process from ending. */
function finished(response: ServerResponse): Promise<void> {
  return new Promise((settle) => {
    const timer = setTimeout(settle, FINISH_MS);
    response.once('close', () => {
      clearTimeout(timer);
      settle();
    });
    response.end();
  });
}

export interface EventStreamOptions {
  readonly log: EventLog;
  /** Replays what came after this id first. */
  readonly since: number | undefined;
  readonly wanted: (event: ChannelEvent) => boolean;
  /** What the first line says besides. */
  readonly hello: Readonly<Record<string, unknown>>;
}

/** False, and nothing written, when there are too many streams. */
export function streamEvents(streams: Streams, response: ServerResponse, options: EventStreamOptions): boolean {
  const { log, since, wanted, hello } = options;
  let missed = 0;
  const writeLine = (value: unknown): void => void response.write(`${JSON.stringify(value)}\n`);
  const send = (event: ChannelEvent): void => {
    if (!wanted(event)) return;
    if (missed > 0 || response.writableLength > MAX_WAITING_EVENT_BYTES) {
      missed++;
      streams.countMissed();
    } else writeLine(event);
  };
  const unlisten = log.listen(send);
  if (!streams.add(response, unlisten)) {
    unlisten();
    return false;
  }
  response.on('drain', () => {
    if (missed === 0) return;
    writeLine({ type: 'missed', count: missed });
    missed = 0;
  });
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
  writeLine({ type: 'listening', id: log.lastId, ...hello });
  if (since !== undefined) {
    const replay = log.since(since);
    if (replay.missed !== 0) writeLine({ type: 'missed', count: replay.missed });
    for (const event of replay.events) if (wanted(event)) writeLine(event);
  }
  return true;
}

export const OFFSET_HEADER = 'xenchannel-offset';

/**
 * Raw bytes from an offset on, without a gap: an answer ends where the kept bytes do. With `follow` it goes on with what
 * the guest says; who is too slow is cut off in the middle of the answer, so that nobody can take it for the whole.
 */
export function streamOutput(
  streams: Streams,
  response: ServerResponse,
  feed: OutputFeed,
  { earlier, follow }: { readonly earlier: HistoryPiece; readonly follow: boolean },
): boolean {
  const goesOn = follow && earlier.nextOffset === feed.offset;
  let unfollow = (): void => {};
  if (!streams.add(response, () => unfollow())) return false;
  response.writeHead(200, {
    'content-type': 'application/octet-stream',
    'cache-control': 'no-store',
    [OFFSET_HEADER]: String(earlier.offset),
  });
  response.flushHeaders();
  if (earlier.bytes.length > 0) response.write(earlier.bytes);
  if (!goesOn) {
    response.end();
    return true;
  }
  unfollow = feed.follow({
    onBytes: (bytes) => {
      if (response.writableLength + bytes.length > MAX_WAITING_OUTPUT_BYTES) {
        unfollow();
        response.destroy();
      } else response.write(Buffer.from(bytes));
    },
    onEnd: () => void response.end(),
  });
  return true;
}
