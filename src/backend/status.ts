/**
 * What the daemon says of itself and of each channel: the shape of GET /v1/status. Everything the guest can influence
 * is a number, a boolean or a checked word.
 */
import type { XenbusState } from '../console/xenbus-state.js';
import type { ChannelConfig } from './discovery.js';
import type { FrontendSight, Phase } from './handshake.js';
import type { WantedStatus } from './restorer.js';
import type { ChannelSession } from './session.js';

/** Bytes that may be missing or repeated, because the daemon before this one did not stop in order. */
export interface Gap {
  readonly at: string;
  readonly reason: 'no-handover' | 'handover-unusable' | 'spool-unusable' | 'ring-moved-on';
  /** Bytes of an unusable handover that were thrown away, as far as they are known. */
  readonly discardedBytes: number;
  /** Which bytes of the guest are missing, counted since the channel began; null where that is not known. */
  readonly fromOffset: number | null;
  readonly toOffset: number | null;
  readonly lostBytes: number | null;
  /** No more than these may come twice. */
  readonly repeatedBytes: number;
}

/** The daemon before this one was killed, and no byte of the guest is lost. */
export interface Recovery {
  readonly at: string;
  /** Taken from the guest by the dead daemon, not yet with a client. */
  readonly bytes: number;
  /** The first of them, counted since the channel began. */
  readonly fromOffset: number;
  /** In the spool and still in the ring: they are not taken twice. */
  readonly skippedBytes: number;
  /** A client may get no more than these twice: they were handed to the kernel and not yet marked. */
  readonly repeatedBytes: number;
}

export interface ChannelStatus {
  readonly domid: number;
  readonly deviceId: number;
  readonly backendDomid: number;
  readonly uuid: string | null;
  readonly name: string;
  readonly connection: string;
  readonly path: string;
  readonly phase: Phase;
  readonly frontendState: FrontendSight;
  readonly backendState: XenbusState | null;
  readonly detaching: boolean;
  /** A writing host client is connected. */
  readonly hostOpen: boolean;
  /** What the guest claims; null: nothing. */
  readonly guestOpen: boolean | null;
  /** Client bytes are held back because the guest has not spoken yet. */
  readonly silent: boolean;
  readonly fromGuestBytes: number;
  readonly toGuestBytes: number;
  readonly deliveredBytes: number;
  readonly spoolBytes: number;
  readonly spoolLimitBytes: number;
  /** Whether the spool survives a killed daemon. */
  readonly spool: 'memory' | 'file';
  readonly droppedBytes: number;
  /** How often and how long the guest was held up for a client with a full spool. */
  readonly stalls: number;
  readonly stalledMs: number;
  /** Client bytes read and not yet in the ring. */
  readonly inputBytes: number;
  /** Bytes in the ring that the guest has not taken. */
  readonly inRingBytes: number;
  /** All that the daemon has for the guest and the guest has not taken: 0 means that everything arrived. */
  readonly unconsumedBytes: number;
  readonly gap: Gap | null;
  readonly recovered: Recovery | null;
  readonly events: number;
  readonly idleEvents: number;
  readonly illegalIndices: number;
  /** States, ring references, ports and nonces that were no such things. */
  readonly malformed: number;
  readonly connects: number;
  readonly identifyAnswers: number;
  /** Why nobody can connect, or the ring cannot be served. */
  readonly problems: readonly { readonly code: string; readonly message: string }[];
  /** The last time that a writing client was sent away because another asked for its place. */
  readonly replaced: { readonly at: string; readonly by: string } | null;
  readonly chardev: Readonly<Record<string, number | string | boolean>>;
}

export interface DaemonStatus {
  readonly pid: number;
  readonly startedAt: string;
  readonly backendDomid: number;
  readonly runDirectory: string;
  readonly channels: readonly ChannelStatus[];
  /** Native channels that are not served as they stand. */
  readonly refused: readonly {
    readonly domid: number;
    readonly deviceId: number;
    readonly code: string;
    readonly message: string;
  }[];
  /** Channels that shall exist on running domains, and what became of them since the domain or the daemon came. */
  readonly wanted: readonly WantedStatus[];
}

/** What a controller knows of its channel; the rest follows from it. */
export type ChannelParts = Pick<
  ChannelStatus,
  | 'phase'
  | 'frontendState'
  | 'backendState'
  | 'detaching'
  | 'hostOpen'
  | 'gap'
  | 'recovered'
  | 'malformed'
  | 'connects'
  | 'problems'
  | 'replaced'
  | 'chardev'
> & { readonly config: ChannelConfig; readonly session: ReturnType<ChannelSession['figures']> };

export function describeChannel({ config, session, ...parts }: ChannelParts): ChannelStatus {
  const { domid, deviceId, backendDomid, uuid, name, connection, path } = config;
  const backlogBytes = parts.chardev['inputBacklogBytes'];
  return {
    domid,
    deviceId,
    backendDomid,
    uuid: uuid ?? null,
    name,
    connection,
    path,
    ...session,
    ...parts,
    guestOpen: session.guestOpen ?? null,
    unconsumedBytes: session.inputBytes + session.inRingBytes + (typeof backlogBytes === 'number' ? backlogBytes : 0),
  };
}

/** What has become of all bytes, for the log. */
export function ledgerOf(figures: ReturnType<ChannelSession['figures']>): Readonly<Record<string, number>> {
  const { fromGuestBytes, toGuestBytes, deliveredBytes, droppedBytes, spoolBytes } = figures;
  return { fromGuestBytes, toGuestBytes, deliveredBytes, droppedBytes, spoolBytes };
}
