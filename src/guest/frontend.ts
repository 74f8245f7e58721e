/**
 * What the guest's own xenstore says about its consoles: read, validated, never believed beyond that. Relative paths
 * only, so that it is the same before and after a migration. Knows no terminal and no link.
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { StoreOperations } from '../../xenstore/index.js';
import { KEY, QEMU_TYPE } from '../console/layout.js';
import { type ChannelName, channelNameProblem, printable } from '../console/name.js';
import { parseXenbusState, type XenbusState } from '../console/xenbus-state.js';

/** Where a guest sees its own consoles. */
export const OWN_CONSOLES = 'device/console';
export const ownConsole = (deviceId: number): string => `${OWN_CONSOLES}/${deviceId}`;

/** More consoles than that are not looked at: Linux has 8 lines. */
export const MAX_CONSOLES = 64;
/** hvc_xen takes the last digit of the id for the whole id (linux:drivers/tty/hvc/hvc_xen.c, xencons_probe). */
export const MAX_DEVICE_ID = 9;

export type NameProblem = 'name-refused' | 'name-duplicate' | 'device-id-unusable';

export interface ConsoleView {
  readonly deviceId: number;
  readonly state: XenbusState | 'unreadable';
  /** Set if the console has a `name` that may be used. */
  readonly name?: ChannelName;
  /** The name as it may be shown: quoted, escaped, cut. Absent for a console without one (no channel). */
  readonly shownName?: string;
  /** Why the name or the id cannot be used. */
  readonly problem?: { readonly code: NameProblem; readonly sentence: string };
  /** True if QEMU serves it: nobody answers the identify key there. */
  readonly mute: boolean;
  /** Changes whenever the kernel connects the console anew. */
  readonly instance: string;
  /** What we have claimed: `1` open, `0` not any more. Absent again when the toolstack makes the console anew. */
  readonly claim?: string;
}

async function readOptional(store: StoreOperations, path: string): Promise<Buffer | undefined> {
  try {
    return await store.read(path);
  } catch (error) {
    // EACCES: a toolstack that made the console key by key left the guest without rights; same as absent for us.
    if (isXenstoreError(error, 'ENOENT', 'EACCES')) return undefined;
    throw error;
  }
}

function idProblem(deviceId: number): ConsoleView['problem'] {
  if (deviceId >= 1 && deviceId <= MAX_DEVICE_ID) return undefined;
  return {
    code: 'device-id-unusable',
    sentence: `device id ${deviceId} is outside 1-${MAX_DEVICE_ID}: Linux reads only the last digit of the id`,
  };
}

async function readConsole(store: StoreOperations, deviceId: number): Promise<ConsoleView> {
  const at = ownConsole(deviceId);
  const [state, name, type, ringRef, port, claim] = await Promise.all(
    ['state', 'name', 'type', 'ring-ref', 'port', KEY.guestOpen].map((key) => readOptional(store, `${at}/${key}`)),
  );
  const text = (value: Buffer | undefined): string =>
    value === undefined ? '' : value.toString('latin1').slice(0, 32);
  const view = {
    deviceId,
    state: parseXenbusState(state?.toString('latin1')) ?? ('unreadable' as const),
    mute: text(type) === QEMU_TYPE,
    instance: `${text(ringRef)}/${text(port)}`,
    ...(claim === undefined ? {} : { claim: text(claim) }),
  };
  if (name === undefined) return view;
  const shownName = printable(name.toString('utf8'));
  const why = channelNameProblem(name);
  if (why !== undefined) {
    const sentence = `the name ${shownName} of console ${deviceId} cannot be a link: ${why}`;
    return { ...view, shownName, problem: { code: 'name-refused', sentence } };
  }
  const problem = idProblem(deviceId);
  const usable = { ...view, name: name.toString('latin1') as ChannelName, shownName };
  return problem === undefined ? usable : { ...usable, problem };
}

/** All consoles of this guest but the primary one, in ascending order of their ids. */
export async function readConsoles(store: StoreOperations): Promise<ConsoleView[]> {
  const children = await store.tryDirectory(OWN_CONSOLES);
  const ids = children
    .filter((child) => /^[1-9][0-9]{0,8}$/.test(child))
    .map(Number)
    .sort((a, b) => a - b)
    .slice(0, MAX_CONSOLES);
  return Promise.all(ids.map((deviceId) => readConsole(store, deviceId)));
}

/** True if the domain has a primary console: then it is /dev/hvc0 (xencons_probe comes after xen_hvc_init). */
export async function hasPrimaryConsole(store: StoreOperations): Promise<boolean> {
  return (await readOptional(store, 'console/port')) !== undefined;
}

/**
 * Of several consoles with one name only one gets the link: the one that has it already, else the lowest id of
 * those that are connected. `owners` are the device ids that hold a link now.
 */
export function refuseDuplicates(views: readonly ConsoleView[], owners: ReadonlySet<number>): ConsoleView[] {
  const first = new Map<ChannelName, ConsoleView>();
  const usable = views.filter((view) => view.name !== undefined && view.problem === undefined);
  const rank = (view: ConsoleView): number => (owners.has(view.deviceId) ? 0 : view.state === 'connected' ? 1 : 2);
  for (const view of [...usable].sort((a, b) => rank(a) - rank(b) || a.deviceId - b.deviceId)) {
    if (view.name !== undefined && !first.has(view.name)) first.set(view.name, view);
  }
  return views.map((view) => {
    const owner = view.name === undefined ? undefined : first.get(view.name);
    if (owner === undefined || owner === view || view.problem !== undefined) return view;
    const sentence = `console ${view.deviceId} has the same name as console ${owner.deviceId}: ${view.shownName}`;
    return { ...view, problem: { code: 'name-duplicate', sentence } };
  });
}
