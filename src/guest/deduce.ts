/**
 * Which line belongs to which console when the backend does not answer (QEMU never does): pure reasoning over what is
 * left, with a word for how far it can be trusted. No I/O.
 */
import type { ConsoleView } from './frontend.js';
import { MAX_DEVICE_ID } from './frontend.js';

/**
 * `proved`: the backend answered on that line. `deduced`: nothing else is possible. `guessed`: likely, as the kernel
 * fills the lowest free slot (linux:drivers/tty/hvc/hvc_console.c, hvc_alloc), but wrong after some unplugs.
 */
export type Certainty = 'proved' | 'deduced' | 'guessed';

export type Reason = 'answer' | 'recorded' | 'only-candidate' | 'probe-order' | 'same-number';

export interface Finding {
  readonly deviceId: number;
  readonly index: number;
  readonly sure: Certainty;
  readonly how: Reason;
}

const RANK: Readonly<Record<Certainty, number>> = { guessed: 0, deduced: 1, proved: 2 };

export function isSureEnough(sure: Certainty, minimum: Certainty): boolean {
  return RANK[sure] >= RANK[minimum];
}

export interface Leftovers {
  /** All consoles of the guest, with or without a name, apart from those whose line is known. */
  readonly consoles: readonly ConsoleView[];
  /** Lines with a console behind them that belong to none yet, busy ones among them; ascending. */
  readonly lines: readonly number[];
  /** Device ids in the order in which the kernel met them, if that is known. */
  readonly probeOrder: readonly number[];
}

/** A console gets its line when it is probed, before it says Initialised. */
const ownsLine = ({ state }: ConsoleView): boolean => state === 'connected' || state === 'initialised';
/** Not there yet, or leaving: it may have a line now or in a moment. */
const isUncertain = ({ state }: ConsoleView): boolean => !['connected', 'initialised', 'closed'].includes(state);

function sameNumbers(ids: readonly number[], lines: readonly number[]): boolean {
  return ids.length === lines.length && ids.every((id, at) => id === lines[at]);
}

export function deduce({ consoles, lines, probeOrder }: Leftovers): Finding[] {
  const owners = consoles.filter(ownsLine).map(({ deviceId }) => deviceId);
  // A device id of two digits shares the line of its last digit (hvc_xen.c): then no counting is safe.
  const countable = !consoles.some((view) => isUncertain(view) || view.deviceId > MAX_DEVICE_ID);
  const [onlyOwner, onlyLine] = [owners[0], lines[0]];
  if (countable && owners.length === 1 && lines.length === 1 && onlyOwner !== undefined && onlyLine !== undefined) {
    return [{ deviceId: onlyOwner, index: onlyLine, sure: 'deduced', how: 'only-candidate' }];
  }
  const guess = (how: Reason, pairs: readonly (readonly [number, number | undefined])[]): Finding[] =>
    pairs.flatMap(([deviceId, index]) => (index === undefined ? [] : [{ deviceId, index, sure: 'guessed', how }]));
  if (owners.length !== lines.length || sameNumbers(owners, lines)) {
    return guess(
      'same-number',
      owners.map((id) => [id, lines.includes(id) ? id : undefined]),
    );
  }
  const place = (id: number): number => (probeOrder.includes(id) ? probeOrder.indexOf(id) : probeOrder.length + id);
  const ordered = [...owners].sort((a, b) => place(a) - place(b));
  return guess(
    'probe-order',
    ordered.map((id, at) => [id, lines[at]]),
  );
}
