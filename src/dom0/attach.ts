/**
 * Puts a named channel on a running domain, and waits for both ends if asked to. Knows no ring and no daemon; whoever
 * serves the channel finds it in xenstore.
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store, StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { checkDeviceId } from '../console/device-id.js';
import {
  backendPath,
  type ChannelAddress,
  defaultPath,
  frontendPath,
  type NodeWrite,
  outputOf,
} from '../console/layout.js';
import { type ChannelSpec, checkSocketPath } from '../console/spec.js';
import { parseU32 } from '../console/u32.js';
import { parseXenbusState } from '../console/xenbus-state.js';
import { gidOf, uidOf } from '../sys/accounts.js';
import { channelWent } from './channels.js';
import { type Domain, describeDomain, resolveDomain } from './domains.js';
import type { Dom0Environment } from './environment.js';
import { highestEvents, orderWarnings } from './event-order.js';
import { goneMeanwhile, type Placement, type PlacementInput, place, planPlacement } from './placement.js';
import { addSocketChardev, removeChardev } from './qemu.js';
import { checkPathIsFree } from './socket-path.js';
import { describeState } from './states.js';
import { fetchProblems } from './status.js';

export interface AttachRequest {
  /** Id, name or uuid. */
  readonly domain: string;
  readonly spec: ChannelSpec;
  /** How long to wait until both ends are connected; absent: do not wait. */
  readonly waitMs?: number;
  /** Check all, write nothing, return the writes. */
  readonly dryRun?: boolean;
  /** Only to this one, whatever `domain` means by now. */
  readonly uuid?: string | undefined;
  /** Called when the channel is attached, and before its guest is waited for. Not with `dryRun`. */
  readonly onAttached?: (domain: Domain, address: ChannelAddress) => Promise<void>;
  readonly signal?: AbortSignal;
}

export interface AttachResult extends ChannelAddress {
  readonly domain: Domain;
  readonly name: string;
  readonly connection: ChannelSpec['connection'];
  /** Where the channel appears in dom0. */
  readonly path: string;
  readonly output: string;
  /** True when both ends were seen connected. */
  readonly connected: boolean;
  readonly warnings: readonly string[];
  readonly writes: readonly NodeWrite[];
}

/**
 * One `attach`. Throws what the checks find, and then nothing was written; with `waitMs` also `guest-not-ready`, with the
 * channel attached, and `channel-not-found` when it goes meanwhile, as with its domain.
 */
export async function attach(store: Store, request: AttachRequest, env: Dom0Environment): Promise<AttachResult> {
  const { spec } = request;
  const domain = await resolveDomain(store, request.domain);
  if (request.uuid !== undefined && request.uuid !== domain.uuid) throw goneMeanwhile(domain);
  const warnings: string[] = [];
  const unserved = spec.deviceId === undefined ? undefined : checkDeviceId(spec.deviceId);
  if (unserved !== undefined) warnings.push(unserved);
  const input = await claim({ domain, spec, formerDomids: [] }, env);
  const { path } = input;
  await checkAlive(store, domain);
  const connected = request.waitMs !== undefined && request.dryRun !== true;
  const eventsBefore = connected ? await highestEvents(store, domain.domid) : undefined;
  const { address, writes } =
    request.dryRun === true
      ? await store.transaction((tx) => planPlacement(tx, store, input))
      : await putInPlace(store, input, env);
  if (request.dryRun !== true) await request.onAttached?.(domain, address);
  const askDaemon = async (): Promise<string[]> =>
    spec.backend === 'native' && request.dryRun !== true ? daemonWarnings(env, address) : [];
  if (connected) {
    await waitConnected(store, { domain, address, request, askDaemon });
    const port = await store.tryReadText(`${frontendPath(address.domid, address.deviceId)}/port`);
    warnings.push(...orderWarnings(parseU32(port), eventsBefore));
  }
  warnings.push(...(await askDaemon()));
  return {
    ...address,
    domain,
    name: spec.name,
    connection: spec.connection,
    path,
    output: outputOf(spec, address.deviceId),
    connected,
    warnings,
    writes,
  };
}

/** Where the host end will be, when nothing outside of xenstore stands against it. Throws what does. */
export async function claim(
  wanted: Pick<PlacementInput, 'domain' | 'spec' | 'formerDomids'>,
  { runDirectory, backendDomid }: Dom0Environment,
): Promise<PlacementInput> {
  const { domain, spec } = wanted;
  const own = defaultPath(runDirectory, domain.domid, spec.name);
  const path = spec.path ?? own;
  checkSocketPath(path);
  if (backendDomid === 0) await checkHostEnd(path, spec, runDirectory);
  return { ...wanted, path, ownPlace: path === own, backendDomid };
}

/** Writes one channel, for QEMU or for our daemon. */
export async function putInPlace(store: Store, input: PlacementInput, env: Dom0Environment): Promise<Placement> {
  const { backend, connection } = input.spec;
  if (backend === 'qemu' && connection === 'socket') return attachToQemu(store, input, env);
  return place(store, input);
}

/** What the daemon of this host would stumble over when it opens the host end. */
async function checkHostEnd(path: string, spec: ChannelSpec, runDirectory: string): Promise<void> {
  uidOf(spec.owner);
  gidOf(spec.group);
  if (spec.connect !== true) await checkPathIsFree(path, spec, runDirectory);
}

async function daemonWarnings(env: Dom0Environment, address: ChannelAddress): Promise<string[]> {
  const problems = await fetchProblems(env, address);
  if (problems === undefined) {
    return [`no daemon answers at ${env.runDirectory}: the channel connects as soon as one runs`];
  }
  return problems.map(({ message }) => message);
}

/**
 * QEMU must have the chardev before the nodes appear: it looks for it once, and without it the channel connects to
 * nothing (seen with QEMU 7.2). So the device id is chosen first and held by the chardev, whose id contains it.
 */
async function attachToQemu(store: Store, input: PlacementInput, env: Dom0Environment): Promise<Placement> {
  const { address } = await store.transaction((tx) => planPlacement(tx, store, input));
  await addSocketChardev(env, address.domid, address.deviceId, input.path);
  try {
    return await place(store, { ...input, spec: { ...input.spec, deviceId: address.deviceId } });
  } catch (error) {
    await removeChardev(env, address.domid, address.deviceId).catch(() => {}); // the first error is the one to tell
    throw error;
  }
}

/** Throws `domain-not-found`. */
export async function checkAlive(store: Store, domain: Domain): Promise<void> {
  if (await store.isDomainIntroduced(domain.domid)) return;
  throw new ChannelError(
    'domain-not-found',
    `domain ${describeDomain(domain)} has nodes in xenstore, but is not running or is being destroyed`,
    { domid: domain.domid },
  );
}

type WaitInput = {
  domain: Domain;
  address: ChannelAddress;
  request: AttachRequest;
  askDaemon: () => Promise<string[]>;
};

async function waitConnected(store: Store, { domain, address, request, askDaemon }: WaitInput): Promise<void> {
  const { waitMs = 0, signal } = request;
  const frontend = `${frontendPath(address.domid, address.deviceId)}/state`;
  const backend = `${backendPath(address)}/state`;
  const states = async (ops: StoreOperations) =>
    Promise.all([frontend, backend].map(async (path) => parseXenbusState(await ops.tryReadText(path))));
  try {
    await store.waitUntil(
      async (ops) => {
        if ((await states(ops)).every((state) => state === 'connected')) return true;
        // With the domain, or detached by somebody else.
        if (!(await ops.exists(backendPath(address)))) throw channelWent(domain, request.spec.name);
        return false;
      },
      {
        what: `channel ${address.domid}/${address.deviceId} connected`,
        paths: [frontend, backendPath(address)],
        timeoutMs: waitMs,
        ...(signal === undefined ? {} : { signal }),
      },
    );
  } catch (error) {
    if (!isXenstoreError(error, 'timeout')) throw error;
    const [front, back] = await states(store);
    const reasons = await askDaemon();
    throw new ChannelError(
      'guest-not-ready',
      `the channel is attached as device ${address.deviceId} of domain ${describeDomain(domain)}, but not connected after ${waitMs / 1000} s: the frontend is ${describeState(front)}, the backend ${describeState(back)}${reasons.map((reason) => `; ${reason}`).join('')}`,
      { ...address, frontendState: front ?? null, backendState: back ?? null, waitMs },
      { cause: error },
    );
  }
}
