/**
 * What has to be done so that a domain has the channels that are wanted: a pure function of the records and of what
 * stands in xenstore. Does nothing itself, and knows no file and no store.
 */
import { FIRST_DEVICE_ID, LAST_SERVED_DEVICE_ID } from '../console/device-id.js';
import { printable } from '../console/name.js';
import type { ChannelSpec } from '../console/spec.js';
import type { ChannelRecord } from './channels.js';
import type { DesiredChannel } from './desired.js';

/** What stands in xenstore for one running domain. */
export interface Observed {
  readonly domid: number;
  readonly channels: readonly Pick<
    ChannelRecord,
    'name' | 'deviceId' | 'server' | 'online' | 'connection' | 'path' | 'hasFrontend' | 'hasBackend'
  >[];
  /** Every console of the domain, also those without a name. */
  readonly takenIds: readonly number[];
  /** The toolstack has made all of its own consoles: until then nobody knows which ids are free. */
  readonly settled: boolean;
  /** Its kernel has looked at its devices already. */
  readonly awake: boolean;
  /** Ids at which the guest did not react, whatever the reason. */
  readonly spentIds?: readonly number[];
}

export type RefusalCode =
  | 'not-settled'
  | 'not-ours'
  | 'detaching'
  | 'incomplete'
  | 'differs'
  | 'device-id-in-use'
  | 'device-ids-exhausted';

export type Step =
  | { readonly do: 'nothing'; readonly channel: DesiredChannel; readonly deviceId: number }
  | {
      readonly do: 'attach';
      readonly channel: DesiredChannel;
      readonly deviceId: number;
      /** A device of this id may stand dead in the guest: it has to be told that it is gone. */
      readonly deadId: number | undefined;
    }
  | {
      readonly do: 'refuse';
      readonly channel: DesiredChannel;
      readonly code: RefusalCode;
      readonly reason: string;
      /** It may be otherwise in a moment. */
      readonly passing: boolean;
    };

/**
 * One step for each wanted channel, in the order of their names.
 *
 * Which id: the one that was asked for; else the one it had before, so that id and terminal stay what they were; else
 * the lowest free one. A guest that was restored keeps the devices it had. If their nodes are there before it goes on,
 * it takes them for the old ones (linux:drivers/xen/xenbus/xenbus_probe.c, xenbus_dev_resume), so the former id is
 * right. If they come later, the device is dead and shadows every new one of its name (xenbus_dev_changed), so the
 * former id is wrong; and since nothing in xenstore tells a restored guest from one that was started anew, an awake
 * guest under another domid gets another id in both cases.
 */
export function planReconcile(desired: readonly DesiredChannel[], observed: Observed): Step[] {
  const wanted = [...desired].sort((a, b) => (a.spec.name < b.spec.name ? -1 : 1));
  const missing = wanted.filter((channel) => !observed.channels.some(({ name }) => name === channel.spec.name));
  const taken = new Set(observed.takenIds);
  const suspect = suspectIds(missing, observed, taken);
  // Who asked for an id, or had one, has it before who takes what is left.
  const reserved = new Set(missing.map((channel) => claimOf(channel, suspect)).filter((id) => id !== undefined));
  return wanted.map((channel) => {
    const present = observed.channels.find(({ name }) => name === channel.spec.name);
    if (present !== undefined) return judge(channel, present);
    if (!observed.settled) {
      return refuse(channel, 'not-settled', 'the toolstack is still building the domain', true);
    }
    return place(channel, observed, { taken, suspect, reserved });
  });
}

/** Ids that may stand dead in the guest. */
function suspectIds(missing: readonly DesiredChannel[], observed: Observed, taken: ReadonlySet<number>): Set<number> {
  const former = missing.flatMap(({ last }) =>
    observed.awake && last !== undefined && last.domid !== observed.domid ? [last.deviceId] : [],
  );
  return new Set([...former, ...(observed.spentIds ?? [])].filter((id) => !taken.has(id)));
}

function claimOf({ spec, last }: DesiredChannel, suspect: ReadonlySet<number>): number | undefined {
  if (spec.deviceId !== undefined) return spec.deviceId;
  return last === undefined || suspect.has(last.deviceId) ? undefined : last.deviceId;
}

type Ids = { readonly taken: Set<number>; readonly suspect: ReadonlySet<number>; readonly reserved: Set<number> };

function place(channel: DesiredChannel, { domid }: Observed, { taken, suspect, reserved }: Ids): Step {
  const { spec, last } = channel;
  const claim = claimOf(channel, suspect);
  if (spec.deviceId !== undefined && taken.has(spec.deviceId)) {
    return refuse(channel, 'device-id-in-use', `device id ${spec.deviceId} belongs to another console`, false);
  }
  const free = (id: number): boolean => !taken.has(id) && !reserved.has(id);
  const deviceId =
    claim !== undefined && !taken.has(claim)
      ? claim
      : (lowest((id) => free(id) && !suspect.has(id)) ?? lowest((id) => free(id)));
  if (deviceId === undefined) {
    return refuse(
      channel,
      'device-ids-exhausted',
      `all device ids from ${FIRST_DEVICE_ID} to ${LAST_SERVED_DEVICE_ID} are taken or promised`,
      false,
    );
  }
  taken.add(deviceId);
  const former = last !== undefined && last.domid !== domid ? last.deviceId : undefined;
  const deadId = former !== undefined && suspect.has(former) && former !== deviceId ? former : undefined;
  return { do: 'attach', channel, deviceId, deadId };
}

function lowest(isGood: (id: number) => boolean): number | undefined {
  for (let id = FIRST_DEVICE_ID; id <= LAST_SERVED_DEVICE_ID; id++) if (isGood(id)) return id;
  return undefined;
}

function judge(channel: DesiredChannel, present: Observed['channels'][number]): Step {
  const { deviceId } = present;
  if (present.server === 'toolstack') {
    return refuse(channel, 'not-ours', `the toolstack made a channel of this name, device ${deviceId}`, false);
  }
  if (!present.hasFrontend || !present.hasBackend) {
    const what = present.hasFrontend ? 'backend' : 'frontend';
    return refuse(channel, 'incomplete', `the ${what} of device ${deviceId} was removed: detach it first`, false);
  }
  if (!present.online) return refuse(channel, 'detaching', `device ${deviceId} is being detached`, true);
  const difference = differenceOf(channel.spec, present);
  if (difference === undefined) return { do: 'nothing', channel, deviceId };
  return refuse(channel, 'differs', `it is attached with ${difference}: detach it first`, false);
}

/** Only what cannot be changed under a channel, and only what was asked for. */
function differenceOf(spec: ChannelSpec, present: Observed['channels'][number]): string | undefined {
  if (spec.deviceId !== undefined && spec.deviceId !== present.deviceId) return `device id ${present.deviceId}`;
  if (spec.connection !== (present.connection ?? 'socket')) return `connection ${printable(present.connection ?? '')}`;
  if (spec.path !== undefined && spec.path !== present.path) return `path ${printable(present.path ?? '', 110)}`;
  if (spec.backend !== present.server) return `the ${present.server} backend`;
  return undefined;
}

function refuse(channel: DesiredChannel, code: RefusalCode, reason: string, passing: boolean): Step {
  return { do: 'refuse', channel, code, reason, passing };
}
