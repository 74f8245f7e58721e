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
  readonly unknownTransaction: DaemonError;
  /** Too many nodes, transactions, transaction nodes or permissions. */
  readonly quotaExceeded: DaemonError;
  readonly watchQuotaExceeded: DaemonError;
  /** Since 4.22 the C daemon compares with >=, which lowers each limit by one. */
  readonly strictQuotas: boolean;
  /** The path quota binds dom0, too. */
  readonly pathQuotaForAll: boolean;
  readonly pathMax: number;
  readonly watchMax: number;
  readonly directoryPart: boolean;
  /** GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA, watch depth: Xen 4.22. */
  readonly features: boolean;
  /** GET_PERMS works on `@releaseDomain` and `@introduceDomain`. */
  readonly specialPermissionsReadable: boolean;
  /** Every domain may watch `@releaseDomain`. */
  readonly releaseWatchableByAll: boolean;
  /** A client's own watch events precede the reply to the request that caused them (outside transactions). */
  readonly ownEventsFirst: boolean;
  /** Children in order of creation; else sorted. */
  readonly childrenInCreationOrder: boolean;
  /** RM fires the watches of leaves first; else of the root first. */
  readonly leavesFirst: boolean;
  /** Payloads above 4096 bytes are refused with E2BIG; else sent all the same. */
  readonly replyLimited: boolean;
  /** SET_PERMS naming an owner that does not exist is ENOENT. */
  readonly ownerMustExist: boolean;
  /** A node that a guest creates belongs to the guest, whoever owns the parent. */
  readonly creatorOwns: boolean;
  /** A guest that may not read the nearest existing ancestor is told EACCES for an absent node; else ENOENT. */
  readonly absenceHidden: boolean;
  readonly releaseUnknownDomain: DaemonError;
  readonly rootRemovable: boolean;
  /** The reply to WATCH and UNWATCH carries the request's transaction id. */
  readonly watchReplyEchoesTransaction: boolean;
  /** Bits of RingFeature. */
  readonly ringFeatures: number;
}

const XENSTORED_417: LikenessRules = {
  malformedRead: 'ENOENT',
  malformedChange: 'ENOMEM',
  unknownTransaction: 'ENOENT',
  quotaExceeded: 'ENOSPC',
  watchQuotaExceeded: 'E2BIG',
  strictQuotas: false,
  pathQuotaForAll: true,
  pathMax: 2048,
  watchMax: 128,
  directoryPart: true,
  features: false,
  specialPermissionsReadable: false,
  releaseWatchableByAll: false,
  ownEventsFirst: true,
  childrenInCreationOrder: true,
  leavesFirst: true,
  replyLimited: true,
  ownerMustExist: true,
  creatorOwns: true,
  absenceHidden: true,
  releaseUnknownDomain: 'ENOENT',
  rootRemovable: false,
  watchReplyEchoesTransaction: true,
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
    ringFeatures: RingFeature.error | RingFeature.watchDepth | RingFeature.domidAny,
  },
  oxenstored: {
    ...XENSTORED_417,
    malformedRead: 'EINVAL',
    malformedChange: 'EINVAL',
    unknownTransaction: 'EIO',
    quotaExceeded: 'EQUOTA',
    watchQuotaExceeded: 'EQUOTA',
    pathMax: 1024,
    watchMax: 100,
    directoryPart: false,
    ownEventsFirst: false,
    childrenInCreationOrder: false,
    leavesFirst: false,
    replyLimited: false,
    ownerMustExist: false,
    creatorOwns: false,
    absenceHidden: false,
    releaseUnknownDomain: 'EINVAL',
    rootRemovable: true,
    watchReplyEchoesTransaction: false,
    ringFeatures: RingFeature.reconnection,
  },
};
