/** The daemon's live figures of one channel, and waiting for them to say something. Knows no xenstore. */
import type { Clock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import { fetchDaemonStatus, type Where } from './control-client.js';

export type Figures = Readonly<Record<string, unknown>>;

export interface ServedChannel {
  readonly domid: number;
  readonly deviceId: number;
  readonly name: string;
}

/** What is needed to say whether the guest has taken everything. */
export interface Progress {
  /** Bytes that the daemon has for the guest. */
  readonly unconsumedBytes: number;
  /** Bytes that the present writing client has sent. */
  readonly writerBytes: number;
}

/** undefined: no daemon answers, or it does not serve this channel. */
export async function fetchFigures(
  where: Where,
  { domid, deviceId, name }: ServedChannel,
): Promise<Figures | undefined> {
  const answer = await fetchDaemonStatus(where, { domid: String(domid), name });
  if (!isRecord(answer) || !Array.isArray(answer['channels'])) return undefined;
  return answer['channels'].filter(isRecord).find((one) => one['domid'] === domid && one['deviceId'] === deviceId);
}

/** Throws `daemon-unreachable` where nobody can say it. */
export async function fetchProgress(where: Where, channel: ServedChannel): Promise<Progress> {
  const figures = await fetchFigures(where, channel);
  const chardev = figures?.['chardev'];
  const unconsumedBytes = figures?.['unconsumedBytes'];
  if (typeof unconsumedBytes !== 'number') {
    throw new ChannelError(
      'daemon-unreachable',
      `no daemon serves device ${channel.deviceId} of domain ${channel.domid}: nobody can say what the guest has taken`,
      { domid: channel.domid, deviceId: channel.deviceId },
    );
  }
  const writerBytes = isRecord(chardev) ? chardev['bytesFromWriter'] : undefined;
  return {
    unconsumedBytes,
    writerBytes: typeof writerBytes === 'number' ? writerBytes : 0,
  };
}

/** The daemon misses a client that has gone without a word within a second, unless another one comes. */
const MISSED_WITHIN_MS = 1500;

/** Whether another client is writing. One that has just gone may still be shown for a moment: that is waited for. */
export async function isWriterPresent(
  env: Where & { readonly clock: Clock },
  channel: ServedChannel,
  signal: AbortSignal,
): Promise<boolean> {
  const isFree = async (): Promise<boolean> => (await fetchFigures(env, channel))?.['hostOpen'] !== true;
  if (await isFree()) return false;
  return !(await pollUntil(isFree, { clock: env.clock, endMs: env.clock.now() + MISSED_WITHIN_MS, signal }));
}

const FIRST_PAUSE_MS = 10;
const LAST_PAUSE_MS = 250;

/**
 * Looks until `done` says so twice in a row: between two looks the daemon has read what was still on its way to it.
 * False when the time is over; throws the reason of the signal.
 */
export async function pollUntil(
  done: () => Promise<boolean>,
  { clock, endMs, signal }: { readonly clock: Clock; readonly endMs: number; readonly signal: AbortSignal },
): Promise<boolean> {
  let pauseMs = FIRST_PAUSE_MS;
  for (let inARow = 0; ; ) {
    inARow = (await done()) ? inARow + 1 : 0;
    if (inARow === 2) return true;
    const leftMs = endMs - clock.now();
    if (leftMs <= 0 && inARow === 0) return false;
    await pause(clock, inARow > 0 ? FIRST_PAUSE_MS : Math.min(pauseMs, leftMs), signal);
    pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS);
  }
}

export function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((settle, fail) => {
    signal.throwIfAborted();
    const onAbort = (): void => {
      timer.cancel();
      fail(signal.reason as Error);
    };
    const timer = clock.after(delayMs, () => {
      signal.removeEventListener('abort', onAbort);
      settle();
    });
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
