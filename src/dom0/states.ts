/** Xenbus states in messages for people. */
import { XENBUS, type XenbusState } from '../console/xenbus-state.js';

/** `init-wait (2)`, or that there is none. */
export function describeState(state: XenbusState | undefined): string {
  return state === undefined ? 'without a valid state' : `${state} (${XENBUS[state]})`;
}
