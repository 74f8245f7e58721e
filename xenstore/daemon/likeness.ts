/**
 * The points in which genuine xenstore daemons differ, as one table. Everything that is not here is common to all of
 * them. Source: the daemons of Xen 4.17.7 (Debian) and of Xen 4.22, asked side by side.
 */
import type { WireError } from '../errors.js';
import { RingFeature } from '../ring.js';

/** `xenstored` is the C daemon of Xen 4.22 and later. */
export type Likeness = 'xenstored-4.17' | 'xenstored' | 'oxenstored';

/** oxenstored answers quota violations with a name that xs_wire.h does not know. */
export type DaemonError = WireError | 'EQUOTA';

export interface LikenessRules {
  /** READ, DIRECTORY and GET_PERMS whose payload is not exactly one string. 4.17 reports a left-over errno. */
  readonly malformedRead: DaemonError;
  /** The same for MKDIR and RM. */
  readonly malformedChange: DaemonError;
  /** Too many nodes, transactions, transaction nodes or permissions. */
  readonly quotaExceeded: DaemonError;
  readonly watchQuotaExceeded: DaemonError;
  /** Since 4.22 the C daemon compares with >=, which lowers each limit by one. */
  readonly strictQuotas: boolean;
  /** The path quota binds dom0, too. */
  readonly pathQuotaForAll: boolean;
  readonly pathMax: number;
  readonly watchMax: number;
  /** GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA, watch depth: Xen 4.22. */
  readonly features: boolean;
  /** GET_PERMS works on `@releaseDomain` and `@introduceDomain`. */
  readonly specialPermissionsReadable: boolean;
  /** Every domain may watch `@releaseDomain`. */
  readonly releaseWatchableByAll: boolean;
  /** Of equal events that a client has not been sent yet it gets one. */
  readonly equalEventsOnce: boolean;
  /** Longer messages than allowed are cut into pieces, and empty ones are answered when more bytes come. */
  readonly lenientFraming: boolean;
  /** Of a node's record, without permissions, value and children. */
  readonly recordHeaderBytes: number;
  /** Whose limit of memory counts: that of the domain that gets more, or that of the one that asks. */
  readonly memoryQuota: 'of-owner' | 'of-requester' | 'none';
  /** Requests of a domain that may be under way before no more are read. */
  readonly outstandingMax: number;
  /** An event for a domain that waits longer than this is dropped. */
  readonly eventAgeMs: number;
  /** Bits of RingFeature. */
  readonly ringFeatures: number;
}

const XENSTORED_417: LikenessRules = {
  malformedRead: 'ENOENT',
  malformedChange: 'ENOMEM',
  quotaExceeded: 'ENOSPC',
  watchQuotaExceeded: 'E2BIG',
  strictQuotas: false,
  pathQuotaForAll: true,
  pathMax: 2048,
  watchMax: 128,
  features: false,
  specialPermissionsReadable: false,
  releaseWatchableByAll: false,
  equalEventsOnce: true,
  lenientFraming: false,
  recordHeaderBytes: 24,
  memoryQuota: 'of-owner',
  outstandingMax: 20,
  eventAgeMs: 20_000,
  ringFeatures: RingFeature.error,
};

export const LIKENESS: Readonly<Record<Likeness, LikenessRules>> = {
  'xenstored-4.17': XENSTORED_417,
  xenstored: {
    ...XENSTORED_417,
    malformedRead: 'EINVAL',
    malformedChange: 'EINVAL',
    watchQuotaExceeded: 'ENOSPC',
    strictQuotas: true,
    pathQuotaForAll: false,
    features: true,
    specialPermissionsReadable: true,
    releaseWatchableByAll: true,
    recordHeaderBytes: 16,
    memoryQuota: 'of-requester',
    ringFeatures: RingFeature.error | RingFeature.watchDepth | RingFeature.domidAny,
  },
  // What its requests mean is not in this table: see oxenstored/.
  oxenstored: {
    ...XENSTORED_417,
    pathMax: 1024,
    watchMax: 100,
    equalEventsOnce: false,
    lenientFraming: true,
    memoryQuota: 'none',
    // quota-maxoutstanding of its configuration.
    outstandingMax: 1024,
    eventAgeMs: Number.POSITIVE_INFINITY,
    ringFeatures: RingFeature.reconnection,
  },
};
