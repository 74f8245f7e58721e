/** Waits until a channel is connected, opened by the guest, or emptied by it. Every wait is bounded and says what for. */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store, StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { backendPath, frontendPath, KEY } from '../console/layout.js';
import { printable } from '../console/name.js';
import { type ChannelRecord, channelWent, pickChannel, readChannels } from './channels.js';
import { type Domain, describeDomain, resolveDomain } from './domains.js';
import type { Dom0Environment } from './environment.js';
import { fetchProgress, pollUntil } from './figures.js';
import { describeState } from './states.js';
import type { WaitGoal } from './wait-goals.js';

export const DEFAULT_WAIT_MS = 60_000;

export interface WaitRequest {
  readonly domain: string;
  readonly name: string;
  readonly deviceId?: number | undefined;
  readonly goal: WaitGoal;
  readonly timeoutMs?: number | undefined;
  readonly signal: AbortSignal;
}

export interface WaitResult {
  readonly domid: number;
  readonly deviceId: number;
  readonly name: string;
  readonly goal: WaitGoal;
  readonly waitedMs: number;
}

/** Throws `wait-timeout` with what is the case instead, `channel-not-found` also when the channel goes meanwhile. */
export async function waitFor(store: Store, request: WaitRequest, env: Dom0Environment): Promise<WaitResult> {
  const { name, deviceId, goal } = request;
  const startMs = env.clock.now();
  const domain = await resolveDomain(store, request.domain);
  const { channels } = await readChannels(store, domain.domid, env.backendDomid);
  const channel = pickChannel(channels, { domain, name, deviceId });
  if (goal === 'consumed') await waitConsumed({ domain, channel, request, env });
  else await waitStore(store, { domain, channel, request, env });
  return { domid: channel.domid, deviceId: channel.deviceId, name, goal, waitedMs: env.clock.now() - startMs };
}

type Waiting = {
  readonly domain: Domain;
  readonly channel: ChannelRecord;
  readonly request: WaitRequest;
  readonly env: Dom0Environment;
};

async function waitStore(store: Store, waiting: Waiting): Promise<void> {
  const { channel, request } = waiting;
  const { goal, timeoutMs = DEFAULT_WAIT_MS, signal } = request;
  const reached = goal === 'connected' ? isConnected : isGuestOpen;
  const paths = [frontendPath(channel.domid, channel.deviceId), backendPath(channel)];
  const what = describe(waiting);
  try {
    await store.waitUntil(
      async (ops) => {
        if (await reached(ops, channel)) return true;
        if (!(await ops.exists(backendPath(channel)))) throw channelWent(waiting.domain, request.name);
        return false;
      },
      { what, paths, timeoutMs, signal },
    );
  } catch (error) {
    if (!isXenstoreError(error, 'timeout')) throw error;
    const states = await readStates(store, channel);
    throw timeout(
      waiting,
      `${what} did not happen within ${timeoutMs / 1000} s: the frontend is ${states.frontend}, the backend ${states.backend}`,
      {},
    );
  }
}

async function isConnected(ops: StoreOperations, channel: ChannelRecord): Promise<boolean> {
  const states = await Promise.all(
    [frontendPath(channel.domid, channel.deviceId), backendPath(channel)].map((path) =>
      ops.tryReadText(`${path}/state`),
    ),
  );
  return states.every((state) => state === '4');
}

/** A claim of the guest, and the only word about it that there is. */
async function isGuestOpen(ops: StoreOperations, channel: ChannelRecord): Promise<boolean> {
  const claim = await ops.tryReadText(`${frontendPath(channel.domid, channel.deviceId)}/${KEY.guestOpen}`);
  return claim === '1' && (await isConnected(ops, channel));
}

async function waitConsumed(waiting: Waiting): Promise<void> {
  const { channel, request, env } = waiting;
  const { timeoutMs = DEFAULT_WAIT_MS, signal, name } = request;
  const { clock } = env;
  let leftBytes = 0;
  const done = async (): Promise<boolean> => {
    leftBytes = (await fetchProgress(env, { ...channel, name })).unconsumedBytes;
    return leftBytes === 0;
  };
  if (await pollUntil(done, { clock, endMs: clock.now() + timeoutMs, signal })) return;
  throw timeout(
    waiting,
    `the guest has not taken ${leftBytes} bytes of ${describe(waiting)} within ${timeoutMs / 1000} s; they stay where they are`,
    { leftBytes },
  );
}

function describe({ domain, channel, request: { name, goal } }: Waiting): string {
  const label = `channel ${printable(name)} of domain ${describeDomain(domain)}, device ${channel.deviceId}`;
  return goal === 'consumed' ? label : `${goal} of ${label}`;
}

async function readStates(
  store: StoreOperations,
  channel: ChannelRecord,
): Promise<{ frontend: string; backend: string }> {
  const { channels } = await readChannels(store, channel.domid, channel.backendDomid);
  const now = channels.find(({ deviceId }) => deviceId === channel.deviceId);
  return { frontend: describeState(now?.frontendState), backend: describeState(now?.backendState) };
}

function timeout({ channel, request }: Waiting, sentence: string, details: Record<string, unknown>): ChannelError {
  const { domid, deviceId } = channel;
  return new ChannelError('wait-timeout', sentence, { domid, deviceId, goal: request.goal, ...details });
}
