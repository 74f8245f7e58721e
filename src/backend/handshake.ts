/**
 * What the backend does when the frontend's xenbus state changes, or when the toolstack takes the channel away: two
 * tables, so that the manual can print them and a test can walk through them. Does nothing itself.
 *
 * Same decisions as QEMU's console (qemu:hw/char/xen_console.c and hw/xen/xen-bus.c, xen_device_frontend_changed), and
 * what it leaves out: draining until the frontend has closed, and frontends that vanish.
 */
import type { XenbusState } from '../console/xenbus-state.js';

/**
 * What is seen of the frontend: its state, or that it is gone (the guest may delete its whole directory), or bytes that
 * are no state.
 */
export type FrontendSight = XenbusState | 'gone' | 'invalid';

/** Where the backend stands; BACKEND_STATE is what it writes. The ring is mapped in `connected` and `closing`. */
export type Phase = 'waiting' | 'connected' | 'closing' | 'closed';

export const BACKEND_STATE: Readonly<Record<Phase, XenbusState>> = {
  waiting: 'init-wait',
  connected: 'connected',
  closing: 'closing',
  closed: 'closed',
};

export type Action = 'nothing' | 'map-ring' | 'release-ring';

export interface Step {
  readonly do: Action;
  readonly next: Phase | 'unchanged';
}

type Row = Readonly<Record<Phase, Step>>;

const STAY: Step = { do: 'nothing', next: 'unchanged' };
const CONNECT: Step = { do: 'map-ring', next: 'connected' };
const RELEASE: Step = { do: 'release-ring', next: 'closed' };
const CLOSE: Step = { do: 'nothing', next: 'closed' };
/** The frontend started anew without closing (kexec): its ring is not a ring any more. */
const ANEW: Step = { do: 'release-ring', next: 'waiting' };
const REOPEN: Step = { do: 'nothing', next: 'waiting' };

const STAY_ALL: Row = { waiting: STAY, connected: STAY, closing: STAY, closed: STAY };

export const ON_FRONTEND: Readonly<Record<FrontendSight, Row>> = {
  unknown: { waiting: CLOSE, connected: RELEASE, closing: RELEASE, closed: STAY },
  initialising: { waiting: STAY, connected: ANEW, closing: RELEASE, closed: REOPEN },
  'init-wait': STAY_ALL,
  // A Linux frontend goes to 3 without waiting for anybody, also when we have not seen its 1.
  initialised: { waiting: CONNECT, connected: STAY, closing: STAY, closed: CONNECT },
  // Closed and yet connected: the frontend has not looked at us yet. Mapping again would undo a release on time-out.
  connected: { waiting: CONNECT, connected: STAY, closing: STAY, closed: STAY },
  closing: { waiting: CLOSE, connected: { do: 'nothing', next: 'closing' }, closing: STAY, closed: STAY },
  closed: { waiting: CLOSE, connected: RELEASE, closing: RELEASE, closed: STAY },
  reconfiguring: STAY_ALL,
  reconfigured: STAY_ALL,
  gone: { waiting: CLOSE, connected: RELEASE, closing: RELEASE, closed: STAY },
  invalid: STAY_ALL,
};

/** Somebody in the guest may be spinning in a write until the last byte is drained, so a ring is served to the end. */
const SERVE_TO_THE_END: Step = { do: 'map-ring', next: 'closing' };
const DRAIN_ON: Step = { do: 'nothing', next: 'closing' };

/** The toolstack has written `online=0`, `state=5`. Nothing is opened any more; what is open is drained and closed. */
export function onDetach(sight: FrontendSight, phase: Phase): Step {
  switch (phase) {
    case 'waiting':
      return sight === 'initialised' || sight === 'connected' ? SERVE_TO_THE_END : CLOSE;
    case 'connected':
      return ON_FRONTEND[sight].connected.do === 'release-ring' ? RELEASE : DRAIN_ON;
    case 'closing':
      return ON_FRONTEND[sight].closing;
    case 'closed':
      return STAY;
  }
}

/** Where a daemon takes up a channel whose backend stands at `state`: it has no ring yet, whatever is written there. */
export function initialPhase(state: XenbusState | undefined): Phase {
  return state === 'closed' ? 'closed' : 'waiting';
}
