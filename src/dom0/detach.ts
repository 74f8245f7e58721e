/**
 * Takes a channel off a running domain: closing handshake first, nodes last. Removing nodes under a mapped ring makes
 * the guest free a page that dom0 still maps (seen on Xen 4.17: the guest's page tables suffer), so the nodes stay
 * until the backend has said Closed. Can be interrupted and repeated at any point.
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store, StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { backendPath, type ChannelAddress, frontendPath, frontendsPath, libxlPath } from '../console/layout.js';
import { printable } from '../console/name.js';
import { parseXenbusState, XENBUS, type XenbusState } from '../console/xenbus-state.js';
import { type ChannelRecord, pickChannel, readChannels } from './channels.js';
import { transactionDespite } from './contested.js';
import { isDaemonRunning } from './control-client.js';
import { type Domain, describeDomain, resolveDomain } from './domains.js';
import type { Dom0Environment } from './environment.js';
import { type Leftover, removeLeftover } from './leftovers.js';
import { pruneParents, removeIfThere } from './prune.js';
import { removeChardev } from './qemu.js';
import { describeState } from './states.js';

export interface DetachRequest {
  /** Id, name or uuid. */
  readonly domain: string;
  readonly name: string;
  /** Needed only where a toolstack gave one name to several channels. */
  readonly deviceId?: number;
  /** Do not wait for the guest. */
  readonly force?: boolean;
  /** How long guest and backend have to close. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Called when the end has begun, and before anybody is waited for. */
  readonly onClosing?: (domain: Domain) => Promise<void>;
}

export interface DetachResult extends ChannelAddress {
  readonly domain: Domain;
  readonly name: string;
  readonly warnings: readonly string[];
}

export const DEFAULT_DETACH_TIMEOUT_MS = 10_000;
/** With `force`, a daemon gets this long to let go of the ring: it needs milliseconds. */
export const FORCED_RELEASE_TIMEOUT_MS = 2000;

/** One `detach`. Throws `wait-timeout` with all nodes still there, and what is left of the handshake to be repeated. */
export async function detach(store: Store, request: DetachRequest, env: Dom0Environment): Promise<DetachResult> {
  const { name, deviceId, force = false, timeoutMs = DEFAULT_DETACH_TIMEOUT_MS, signal } = request;
  const domain = await resolveDomain(store, request.domain).catch(async (error: unknown) => {
    const left = await removeLeftover(store, { domain: request.domain, name, deviceId, force }, env);
    if (left === undefined) throw error;
    return left;
  });
  if ('channel' in domain) return resultOfLeftover(domain, name);
  // What the guest may write to must not decide whether it can be taken off.
  const contested = frontendsPath(domain.domid);
  const channel = await transactionDespite(store, contested, (tx) =>
    beginClosing(tx, { domain, name, deviceId }, env.backendDomid),
  );
  await request.onClosing?.(domain);
  const closing: Closing = { store, env, domain, channel, signal, force };
  const warnings = force ? await forceRelease(closing) : await waitClosed(closing, timeoutMs);
  await transactionDespite(store, contested, (tx) => removeNodes(tx, channel));
  if (channel.server === 'qemu' && channel.connection === 'socket') {
    await removeChardev(env, channel.domid, channel.deviceId).catch((error: Error) => {
      warnings.push(`the chardev stays in QEMU: ${error.message}`);
    });
  }
  const { domid, deviceId: id, backendDomid } = channel;
  return { domain, domid, deviceId: id, backendDomid, name, warnings };
}

function resultOfLeftover({ domain, channel }: Leftover, name: string): DetachResult {
  const { domid, deviceId, backendDomid } = channel;
  const warnings = [`domain ${domid} is gone: what it had left of the channel was removed`];
  return { domain, domid, deviceId, backendDomid, name, warnings };
}

type Closing = {
  readonly store: Store;
  readonly env: Dom0Environment;
  readonly domain: Domain;
  readonly channel: ChannelRecord;
  readonly signal: AbortSignal | undefined;
  readonly force: boolean;
};

type Wanted = { domain: Domain; name: string; deviceId: number | undefined };

/** Finds the channel and asks both ends to close. A backend that is closing or closed already is left as it is. */
async function beginClosing(tx: StoreOperations, wanted: Wanted, backendDomid: number): Promise<ChannelRecord> {
  const { channels } = await readChannels(tx, wanted.domain.domid, backendDomid);
  const channel = pickChannel(channels, wanted);
  if (channel.server === 'toolstack') {
    throw new ChannelError(
      'not-ours',
      `channel ${printable(wanted.name)} of domain ${describeDomain(wanted.domain)} was made by the toolstack when the domain started: taking it off would break its server`,
      { domid: channel.domid, deviceId: channel.deviceId },
    );
  }
  if (channel.hasBackend) {
    await tx.write(`${backendPath(channel)}/online`, '0');
    if (channel.backendState !== 'closing' && channel.backendState !== 'closed') {
      await tx.write(`${backendPath(channel)}/state`, String(XENBUS.closing));
    }
  }
  return channel;
}

interface Ends {
  readonly frontend: XenbusState | 'absent' | undefined;
  readonly backend: XenbusState | 'absent' | undefined;
  /** Somebody else finished this detach and attached anew: what stands there is not our business. */
  readonly replaced: boolean;
}

async function readEnds(ops: StoreOperations, channel: ChannelAddress): Promise<Ends> {
  const front = frontendPath(channel.domid, channel.deviceId);
  const back = backendPath(channel);
  const [frontState, backState, online, hasFront, hasBack] = await Promise.all([
    ops.tryReadText(`${front}/state`),
    ops.tryReadText(`${back}/state`),
    ops.tryReadText(`${back}/online`),
    ops.exists(front),
    ops.exists(back),
  ]);
  return {
    frontend: hasFront ? parseXenbusState(frontState) : 'absent',
    backend: hasBack ? parseXenbusState(backState) : 'absent',
    replaced: online === '1',
  };
}

const isOver = (state: Ends['frontend']): boolean => state === 'closed' || state === 'absent';
/** The guest never looked at the device: it has granted nothing and will answer nothing. */
const isUntouched = (state: Ends['frontend']): boolean => state === 'initialising';

/** Waits for both ends. */
async function waitClosed(closing: Closing, timeoutMs: number): Promise<string[]> {
  const done = ({ frontend, backend, replaced }: Ends): boolean =>
    replaced || (isOver(backend) && (isOver(frontend) || isUntouched(frontend)));
  const { ends, inTime } = await waitEnds(closing, timeoutMs, done);
  if (inTime) return [];
  throw await timeoutError(closing, timeoutMs, ends);
}

/**
 * The guest is not asked. Our daemon lets go of the ring when its frontend vanishes, so that goes first; whoever cannot
 * be seen to let go keeps the backend's nodes, and the caller hears of it.
 */
async function forceRelease(closing: Closing): Promise<string[]> {
  const { store, env, channel } = closing;
  const released = ({ backend, replaced }: Ends): boolean => replaced || isOver(backend);
  const first = await waitEnds(closing, 0, released);
  if (first.inTime) return [];
  if (channel.server === 'native' && !(await isDaemonRunning(env))) {
    return ['no daemon answers, so nobody can have the ring mapped: the nodes were removed without a handshake'];
  }
  const asked = await waitEnds(closing, FORCED_RELEASE_TIMEOUT_MS, released);
  if (asked.inTime) return isOver(asked.ends.frontend) ? [] : ['the guest was not waited for'];
  // A QEMU whose frontend vanishes uses memory that it has freed (seen with QEMU 7.2).
  if (channel.server === 'qemu') throw await timeoutError(closing, FORCED_RELEASE_TIMEOUT_MS, asked.ends);
  await removeIfThere(store, frontendPath(channel.domid, channel.deviceId));
  const second = await waitEnds(closing, FORCED_RELEASE_TIMEOUT_MS, released);
  if (!second.inTime) throw await timeoutError(closing, 2 * FORCED_RELEASE_TIMEOUT_MS, second.ends);
  return ['the guest did not close its end: its device was taken away'];
}

async function waitEnds(
  { store, channel, domain, signal }: Closing,
  timeoutMs: number,
  done: (ends: Ends) => boolean,
): Promise<{ ends: Ends; inTime: boolean }> {
  const now = await readEnds(store, channel);
  if (done(now) || timeoutMs <= 0) return { ends: now, inTime: done(now) };
  let ends = now;
  try {
    await store.waitUntil(
      async (ops) => {
        ends = await readEnds(ops, channel);
        return done(ends);
      },
      {
        what: `channel ${channel.domid}/${channel.deviceId} of domain ${describeDomain(domain)} closed`,
        paths: [frontendPath(channel.domid, channel.deviceId), backendPath(channel)],
        timeoutMs,
        ...(signal === undefined ? {} : { signal }),
      },
    );
    return { ends, inTime: true };
  } catch (error) {
    if (!isXenstoreError(error, 'timeout')) throw error;
    return { ends, inTime: false };
  }
}

async function timeoutError(closing: Closing, timeoutMs: number, ends: Ends): Promise<ChannelError> {
  const { env, domain, channel, force } = closing;
  const daemon = channel.server !== 'native' || (await isDaemonRunning(env));
  const advice = daemon
    ? `its backend still has the ring and keeps its nodes; repeat the command to go on waiting${force ? '' : ', or use --force'}`
    : `no daemon answers at ${env.runDirectory}, so nobody will ever close it: start one, or use --force`;
  return new ChannelError(
    'wait-timeout',
    `channel ${printable(channel.name ?? '')} of domain ${describeDomain(domain)} did not close within ${timeoutMs / 1000} s: the frontend is ${describeEnd(ends.frontend)}, the backend ${describeEnd(ends.backend)}; ${advice}`,
    {
      domid: channel.domid,
      deviceId: channel.deviceId,
      frontendState: ends.frontend ?? null,
      backendState: ends.backend ?? null,
      daemon,
      timeoutMs,
    },
  );
}

const describeEnd = (state: Ends['frontend']): string => (state === 'absent' ? 'gone' : describeState(state));

/** All three directories at once, and the parents that are empty then; nothing if the id belongs to somebody new. */
async function removeNodes(tx: StoreOperations, channel: ChannelAddress): Promise<void> {
  if ((await readEnds(tx, channel)).replaced) return;
  const { domid, deviceId } = channel;
  await removeIfThere(tx, frontendPath(domid, deviceId));
  await removeIfThere(tx, backendPath(channel));
  await removeIfThere(tx, libxlPath(domid, deviceId));
  await pruneParents(tx, channel);
}
