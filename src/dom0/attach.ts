/**
 * Puts a named channel on a running domain: every check and every write in one transaction, so that neither a guest
 * nor a second attach ever sees half of it. Knows no ring and no daemon; whoever serves the channel finds it in xenstore.
 */
import { lstat, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isXenstoreError, type Store, type StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { checkDeviceId, lowestFreeDeviceId } from '../console/device-id.js';
import {
  backendPath,
  backendsPath,
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
import { consoleIds } from './channels.js';
import { type Domain, describeDomain, parseDomid, readDomain, resolveDomain } from './domains.js';
import { type Dom0Environment, mapBounded } from './environment.js';
import { isListening } from './listening.js';
import { addSocketChardev, removeChardev } from './qemu.js';
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
  if (env.backendDomid === 0) await checkPathIsFree(path, spec, env.runDirectory);
  await checkAlive(store, domain);

  const { formerDomids = [] } = request;
  const planned = { domain, spec, path, backendDomid: env.backendDomid, formerDomids };
  const { address, writes } =
    request.dryRun === true
      ? await store.transaction((tx) => planInTransaction(tx, planned))
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

async function daemonWarnings(env: Dom0Environment, address: ChannelAddress): Promise<string[]> {
  const problems = await fetchProblems(env, address);
  if (problems === undefined) {
    return [`no daemon answers at ${env.runDirectory}: the channel connects as soon as one runs`];
  }
  return problems.map(({ message }) => message);
}

type Plan = { readonly address: ChannelAddress; readonly writes: readonly NodeWrite[] };
type PlanInput = {
  domain: Domain;
  spec: ChannelSpec;
  path: string;
  backendDomid: number;
  formerDomids: readonly number[];
};

function writeInTransaction(store: Store, input: PlanInput): Promise<Plan> {
  return store.transaction(async (tx) => {
    const plan = await planInTransaction(tx, input);
    await writeAll(tx, plan.address, plan.writes);
    return plan;
  });
}

/**
 * QEMU must have the chardev before the nodes appear: it looks for it once, and without it the channel connects to
 * nothing (seen with QEMU 7.2). So the device id is chosen first and held by the chardev, whose id contains it.
 */
async function attachToQemu(store: Store, input: PlanInput, env: Dom0Environment): Promise<Plan> {
  const { address } = await store.transaction((tx) => planInTransaction(tx, input));
  await addSocketChardev(env, address.domid, address.deviceId, input.path);
  try {
    return await writeInTransaction(store, { ...input, spec: { ...input.spec, deviceId: address.deviceId } });
  } catch (error) {
    await removeChardev(env, address.domid, address.deviceId).catch(() => {}); // the first error is the one to tell
    throw error;
  }
}

async function planInTransaction(tx: StoreOperations, input: PlanInput): Promise<Plan> {
  const { domain, spec, backendDomid } = input;
  await checkSameDomain(tx, domain);
  const { ids } = await consoleIds(tx, domain.domid, backendDomid);
  await checkNameIsFree(tx, input, ids);
  if (spec.deviceId !== undefined && ids.includes(spec.deviceId)) {
    throw new ChannelError(
      'device-id-in-use',
      `domain ${describeDomain(domain)} already has a console with device id ${spec.deviceId}`,
      { domid: domain.domid, deviceId: spec.deviceId },
    );
  }
  const deviceId = spec.deviceId ?? lowestFreeDeviceId(new Set(ids));
  await checkPathHasNoOwner(tx, input);
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

/** Two servers at one path steal it from each other, whatever domains they serve (qemu:util/qemu-sockets.c unlinks it). */
async function checkPathHasNoOwner(
  tx: StoreOperations,
  { path, backendDomid, formerDomids }: PlanInput,
): Promise<void> {
  const backends = backendsPath(backendDomid);
  const domids = (await tx.tryDirectory(backends)).filter((text) => {
    const domid = parseDomid(text);
    return domid !== undefined && !formerDomids.includes(domid);
  });
  await mapBounded(domids, async (domid) => {
    for (const deviceId of await tx.tryDirectory(`${backends}/${domid}`)) {
      const taken = await tx.tryReadText(`${backends}/${domid}/${deviceId}/path`);
      if (taken === undefined || resolve('/', taken) !== resolve('/', path)) continue;
      throw new ChannelError(
        'path-in-use',
        `console ${deviceId.slice(0, 10)} of domain ${domid} already has the socket path ${path}`,
        { path, domid: Number(domid), deviceId: Number(deviceId) },
      );
    }
  });
}

/** A socket that nobody serves may be replaced by the daemon; anything else at the path is somebody's property. */
async function checkPathIsFree(path: string, spec: ChannelSpec, runDirectory: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    if (error.code === 'ENOTDIR') throw notASocket(path, 'part of it is no directory');
    throw new ChannelError('permission-denied', `cannot look at ${path}: ${error.code}`, { path }, { cause: error });
  });
  if (found === undefined) {
    if (!path.startsWith(`${runDirectory}/`)) await checkDirectory(dirname(path));
    return;
  }
  // Our daemon takes no path from anybody; QEMU unlinks what it finds there and binds.
  if (spec.backend === 'qemu' && found.isSocket() && (await isListening(path))) {
    throw new ChannelError('path-in-use', `a program listens at ${path} already`, { path });
  }
  if (spec.connection === 'socket' ? found.isSocket() : found.isSymbolicLink()) return;
  throw notASocket(path, 'something else stands there');
}

/** The daemon makes directories below its own only: it must not be a way to make them anywhere. */
async function checkDirectory(directory: string): Promise<void> {
  const found = await stat(directory).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  throw new ChannelError('path-illegal', `the directory ${directory} does not exist: make it first`, { directory });
}

function notASocket(path: string, why: string): ChannelError {
  return new ChannelError('path-not-a-socket', `${path} cannot be used for a channel: ${why}, and is left alone`, {
    path,
  });
}

/** Permissions are set on each node: a node that only inherits them below the guest's directory belongs to the guest. */
async function writeAll(tx: StoreOperations, address: ChannelAddress, writes: readonly NodeWrite[]): Promise<void> {
  const parent = frontendsPath(address.domid);
  if (!(await tx.exists(parent))) {
    // It would inherit from `device`, which is the guest's own where xl.cfg has xend_suspend_evtchn_compat.
    await tx.mkdir(parent);
    await tx.setPermissions(parent, permissionSets({ ...address, backendDomid: 0 }).readOnly);
  }
  for (const { path, value, permissions } of writes) {
    await tx.write(path, value);
    await tx.setPermissions(path, permissions);
  }
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
