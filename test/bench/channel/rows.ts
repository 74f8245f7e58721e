/** What is measured, and how good ours must be. Data only. */

/**
 * Beside the peers: `bare`, a Node program that does what cannot be left out (bare.ts), to see what is Node's price and
 * what ours, and `least`, the same in C (limit.c), to see what can be reached at all.
 */
export type Reference = 'bare' | 'least';
export type Subject = 'ours' | 'socat' | 'socat-64k' | Reference;

export const SUBJECT_NAMES: Readonly<Record<Subject, string>> = {
  ours: 'ours',
  socat: 'socat',
  'socat-64k': 'socat -b65536',
  bare: 'the least in Node',
  least: 'the least in C',
};

/**
 * Where relay and load run. `pinned`: both on one CPU, so that a figure is what the work costs and not what waking
 * another CPU costs. `apart`: each on a CPU of its own. `free`: wherever the kernel puts them.
 */
export const PLACEMENTS = { pinned: 'one CPU', apart: 'a CPU each', free: 'all CPUs' } as const;
export type Placement = keyof typeof PLACEMENTS;

/** Where spools are: in files, as in a daemon whose run directory is in memory, or in the daemon's own memory. */
export type SpoolPlace = 'file' | 'memory';

/** What load.c measures and which of its figures counts. */
export interface Measure {
  readonly load: readonly string[];
  readonly subjects: readonly Subject[];
  /** Channels that the relay of ours serves; socat serves one. */
  readonly served: number;
  /** What stands at the host's side. */
  readonly host?: HostEnd;
  /** bare.ts and limit.c can do it, too. */
  readonly hasReferences?: true;
  /** Guests stop now and then, as if each had a processor of its own: what others wait for is the backend then. */
  readonly breaks?: true;
}

export type HostEnd = 'socket' | 'pty';

export type Target =
  | { readonly atLeast: number }
  | { readonly atMost: number }
  /** The figure itself, not a ratio. */
  | { readonly most: number }
  | { readonly none: true };

export interface Row {
  readonly name: string;
  readonly measure: string;
  readonly column: number;
  readonly unit: 'MB/s' | 'us';
  /** Another subject of the same measure, or ours in another measure. */
  readonly peer?: { readonly subject: Subject; readonly measure?: string };
  readonly target: Target;
}

const EVERYBODY: readonly Subject[] = ['ours', 'socat', 'socat-64k'];
const WITH_64K: readonly Subject[] = ['ours', 'socat-64k'];
/** All aggregate figures come from one process that serves as many. */
export const MOST_CHANNELS = 1000;

/** CHANNELS, SECONDS and so on stand where load.c wants them. */
export const MEASURES: Readonly<Record<string, Measure>> = {
  up: { load: ['bulk', 'FOLDER', '1', 'up', 'SECONDS', 'SEED'], subjects: EVERYBODY, served: 1, hasReferences: true },
  down: {
    load: ['bulk', 'FOLDER', '1', 'down', 'SECONDS', 'SEED'],
    subjects: EVERYBODY,
    served: 1,
    hasReferences: true,
  },
  ping: { load: ['ping', 'FOLDER', 'SECONDS'], subjects: ['ours', 'socat'], served: 1, hasReferences: true },
  'pty-up': { load: ['bulk', 'FOLDER', '1', 'up', 'SECONDS', 'SEED'], subjects: WITH_64K, served: 1, host: 'pty' },
  'pty-down': { load: ['bulk', 'FOLDER', '1', 'down', 'SECONDS', 'SEED'], subjects: WITH_64K, served: 1, host: 'pty' },
  'up-1': { load: ['bulk', 'FOLDER', '1', 'up', 'SECONDS', 'SEED'], subjects: ['ours'], served: MOST_CHANNELS },
  'up-10': { load: ['bulk', 'FOLDER', '10', 'up', 'SECONDS', 'SEED'], subjects: ['ours'], served: MOST_CHANNELS },
  'up-100': { load: ['bulk', 'FOLDER', '100', 'up', 'SECONDS', 'SEED'], subjects: ['ours'], served: MOST_CHANNELS },
  'up-1000': { load: ['bulk', 'FOLDER', '1000', 'up', 'SECONDS', 'SEED'], subjects: ['ours'], served: MOST_CHANNELS },
  'fair-1': { load: ['fair', 'FOLDER', '1', 'SECONDS'], subjects: ['ours'], served: MOST_CHANNELS, breaks: true },
  'fair-8': { load: ['fair', 'FOLDER', '8', 'SECONDS'], subjects: ['ours'], served: MOST_CHANNELS, breaks: true },
};

const socat = { subject: 'socat' } as const;
const socat64k = { subject: 'socat-64k' } as const;
const alone = { subject: 'ours', measure: 'up-1' } as const;

export const ROWS: readonly Row[] = [
  { name: 'bulk guest to host', measure: 'up', column: 0, unit: 'MB/s', peer: socat, target: { atLeast: 1.8 } },
  { name: 'bulk guest to host', measure: 'up', column: 0, unit: 'MB/s', peer: socat64k, target: { atLeast: 0.95 } },
  { name: 'bulk host to guest', measure: 'down', column: 0, unit: 'MB/s', peer: socat, target: { atLeast: 1.5 } },
  { name: 'bulk host to guest', measure: 'down', column: 0, unit: 'MB/s', peer: socat64k, target: { atLeast: 0.85 } },
  {
    name: 'round trip of 64 bytes, p50',
    measure: 'ping',
    column: 0,
    unit: 'us',
    peer: socat,
    target: { atMost: 1.25 },
  },
  { name: 'round trip of 64 bytes, p99', measure: 'ping', column: 1, unit: 'us', peer: socat, target: { atMost: 2 } },
  { name: 'PTY, guest to host', measure: 'pty-up', column: 0, unit: 'MB/s', peer: socat64k, target: { atLeast: 0.8 } },
  {
    name: 'PTY, host to guest',
    measure: 'pty-down',
    column: 0,
    unit: 'MB/s',
    peer: socat64k,
    target: { atLeast: 0.8 },
  },
  { name: '10 channels, sum', measure: 'up-10', column: 0, unit: 'MB/s', peer: alone, target: { atLeast: 1 } },
  { name: '100 channels, sum', measure: 'up-100', column: 0, unit: 'MB/s', peer: alone, target: { atLeast: 0.8 } },
  { name: '1000 channels, sum', measure: 'up-1000', column: 0, unit: 'MB/s', peer: alone, target: { atLeast: 0.6 } },
  { name: 'p99 beside 1 bulk channel', measure: 'fair-1', column: 1, unit: 'us', target: { none: true } },
  { name: 'p99 beside 8 bulk channels', measure: 'fair-8', column: 1, unit: 'us', target: { none: true } },
];

export const MEMORY_TARGET_KIB = 40;
export const IDLE_CPU_TARGET_PERCENT = 0.5;
