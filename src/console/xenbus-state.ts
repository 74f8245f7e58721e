/**
 * The states of a split device. Source: xen:xen/include/public/io/xenbus.h.
 */

export const XENBUS = {
  unknown: 0,
  initialising: 1,
  'init-wait': 2,
  initialised: 3,
  connected: 4,
  closing: 5,
  closed: 6,
  reconfiguring: 7,
  reconfigured: 8,
} as const;

export type XenbusState = keyof typeof XENBUS;

const NAMES = Object.keys(XENBUS) as XenbusState[];

/** The state a `state` key holds; undefined for an absent key or for anything that is no state (guests may write any bytes). */
export function parseXenbusState(text: string | undefined): XenbusState | undefined {
  return text !== undefined && /^[0-8]$/.test(text) ? NAMES[Number(text)] : undefined;
}

export function formatXenbusState(state: XenbusState): string {
  return String(XENBUS[state]);
}
