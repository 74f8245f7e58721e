/**
 * Puts a named channel on a running domain: every check and every write in one transaction, so that neither a guest
 * nor a second attach ever sees half of it. Knows no ring and no daemon; whoever serves the channel finds it in xenstore.
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store, StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { checkDeviceId, lowestFreeDeviceId } from '../console/device-id.js';
import {
  backendPath,
  type ChannelAddress,
  channelWrites,
  defaultPath,
  frontendPath,
  frontendsPath,
  libxlPath,
  type NodeWrite,
  outputOf,
  permissionSets,
} from '../console/layout.js';
import { printable } from '../console/name.js';
import { type ChannelSpec, checkSocketPath } from '../console/spec.js';
import { parseXenbusState } from '../console/xenbus-state.js';
import { gidOf, uidOf } from '../sys/accounts.js';
import { consoleIds } from './channels.js';
import { type Domain, describeDomain, readDomain, resolveDomain } from './domains.js';
import { type Dom0Environment, mapBounded } from './environment.js';
import { addSocketChardev, removeChardev } from './qemu.js';
import { announceChosenPath, checkPathHasNoOwner, checkPathIsFree, type PathClaim } from './socket-path.js';
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
  /** The same domain under other ids, as while it migrates to its own host: its socket paths may be taken over. */
  readonly formerDomids?: readonly number[];
  /** The daemon itself attaches: it knows what it would answer. */
  readonly byDaemon?: boolean;
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

/** One `attach`. Throws what the checks find; then nothing was written. */
export async function attach(store: Store, request: AttachRequest, env: Dom0Environment): Promise<AttachResult> {
  const { spec } = request;
  const domain = await resolveDomain(store, request.domain);
  if (request.uuid !== undefined && request.uuid !== domain.uuid) throw goneMeanwhile(domain);
  const warnings: string[] = [];
  const unserved = spec.deviceId === undefined ? undefined : checkDeviceId(spec.deviceId);
  if (unserved !== undefined) warnings.push(unserved);
  const path = spec.path ?? defaultPath(env.runDirectory, domain.domid, spec.name);
  checkSocketPath(path);
  if (env.backendDomid === 0) await checkHostEnd(path, spec, env.runDirectory);
  await checkAlive(store, domain);

  const { formerDomids = [] } = request;
  const ownPlace = path === defaultPath(env.runDirectory, domain.domid, spec.name);
  const planned = { domain, spec, path, ownPlace, backendDomid: env.backendDomid, formerDomids };
  const { address, writes } =
    request.dryRun === true
      ? await store.transaction((tx) => planInTransaction(tx, store, planned))
      : spec.backend === 'qemu' && spec.connection === 'socket'
        ? await attachToQemu(store, planned, env)
        : await writeInTransaction(store, planned);
  if (request.dryRun !== true) await request.onAttached?.(domain, address);
  const connected = request.waitMs !== undefined && request.dryRun !== true;
  const askDaemon = async (): Promise<string[]> =>
    spec.backend === 'native' && request.dryRun !== true && request.byDaemon !== true
      ? daemonWarnings(env, address)
      : [];
  if (connected) await waitConnected(store, { domain, address, request, askDaemon });
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

type Plan = { readonly address: ChannelAddress; readonly writes: readonly NodeWrite[] };
type PlanInput = PathClaim & { readonly domain: Domain; readonly spec: ChannelSpec };

function writeInTransaction(store: Store, input: PlanInput): Promise<Plan> {
  return store.transaction(async (tx) => {
    const plan = await planInTransaction(tx, store, input);
    await Promise.all([writeAll(tx, plan.address, plan.writes), announceChosenPath(tx, input)]);
    return plan;
  });
}

/**
 * QEMU must have the chardev before the nodes appear: it looks for it once, and without it the channel connects to
 * nothing (seen with QEMU 7.2). So the device id is chosen first and held by the chardev, whose id contains it.
 */
async function attachToQemu(store: Store, input: PlanInput, env: Dom0Environment): Promise<Plan> {
  const { address } = await store.transaction((tx) => planInTransaction(tx, store, input));
  await addSocketChardev(env, address.domid, address.deviceId, input.path);
  try {
    return await writeInTransaction(store, { ...input, spec: { ...input.spec, deviceId: address.deviceId } });
  } catch (error) {
    await removeChardev(env, address.domid, address.deviceId).catch(() => {}); // the first error is the one to tell
    throw error;
  }
}

/** Of one moment, apart from the paths of other channels, about which see socket-path.ts. */
async function planInTransaction(tx: StoreOperations, store: StoreOperations, input: PlanInput): Promise<Plan> {
  const { domain, spec, backendDomid } = input;
  const [{ ids }] = await Promise.all([consoleIds(tx, domain.domid, backendDomid), checkSameDomain(tx, domain)]);
  await checkNameIsFree(tx, input, ids);
  if (spec.deviceId !== undefined && ids.includes(spec.deviceId)) {
    throw new ChannelError(
      'device-id-in-use',
      `domain ${describeDomain(domain)} already has a console with device id ${spec.deviceId}`,
      { domid: domain.domid, deviceId: spec.deviceId },
    );
  }
  const deviceId = spec.deviceId ?? lowestFreeDeviceId(new Set(ids));
  if (spec.connect !== true) await checkPathHasNoOwner(tx, store, input);
  const address = { domid: domain.domid, deviceId, backendDomid };
  return { address, writes: channelWrites(address, spec, input.path) };
}

/** A domid may be reused between our look at the name and the transaction; a uuid is not. */
async function checkSameDomain(tx: StoreOperations, domain: Domain): Promise<void> {
  const now = await readDomain(tx, domain.domid);
  if (now === undefined || now.uuid !== domain.uuid) throw goneMeanwhile(domain);
}

function goneMeanwhile(domain: Domain): ChannelError {
  return new ChannelError('domain-not-found', `domain ${describeDomain(domain)} has gone meanwhile`, {
    domid: domain.domid,
  });
}

async function checkAlive(store: Store, domain: Domain): Promise<void> {
  if (await store.isDomainIntroduced(domain.domid)) return;
  throw new ChannelError(
    'domain-not-found',
    `domain ${describeDomain(domain)} has nodes in xenstore, but is not running or is being destroyed`,
    { domid: domain.domid },
  );
}

/** Names are compared as dom0 wrote them; the guest's own `name` keys do not count. */
async function checkNameIsFree(tx: StoreOperations, input: PlanInput, ids: readonly number[]): Promise<void> {
  const { domain, spec, backendDomid } = input;
  const owners = await mapBounded(ids, async (deviceId) => {
    const address = { domid: domain.domid, deviceId, backendDomid };
    const names = await Promise.all([
      tx.tryReadText(`${backendPath(address)}/name`),
      tx.tryReadText(`${libxlPath(domain.domid, deviceId)}/name`),
    ]);
    return names.includes(spec.name) ? deviceId : undefined;
  });
  const owner = owners.find((deviceId) => deviceId !== undefined);
  if (owner === undefined) return;
  throw new ChannelError(
    'name-in-use',
    `domain ${describeDomain(domain)} already has a channel ${printable(spec.name)}, with device id ${owner}`,
    { domid: domain.domid, name: spec.name, deviceId: owner },
  );
}

/** Permissions are set on each node: a node that only inherits them below the guest's directory belongs to the guest. */
async function writeAll(tx: StoreOperations, address: ChannelAddress, writes: readonly NodeWrite[]): Promise<void> {
  const parent = frontendsPath(address.domid);
  if (!(await tx.exists(parent))) {
    // It would inherit from `device`, which is the guest's own where xl.cfg has xend_suspend_evtchn_compat.
    await tx.mkdir(parent);
    await tx.setPermissions(parent, permissionSets({ ...address, backendDomid: 0 }).readOnly);
  }
  // In this order, but without waiting for each: 60 round trips would leave others the time to change what was read.
  await Promise.all(
    writes.flatMap(({ path, value, permissions }) => [tx.write(path, value), tx.setPermissions(path, permissions)]),
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
    await store.waitUntil(async (ops) => (await states(ops)).every((state) => state === 'connected'), {
      what: `channel ${address.domid}/${address.deviceId} connected`,
      paths: [frontend, backend],
      timeoutMs: waitMs,
      ...(signal === undefined ? {} : { signal }),
    });
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
