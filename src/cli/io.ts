/**
 * What a command may touch of the process it runs in, as a parameter: tests run every command without one.
 */
import type { Clock } from '../base/clock.js';

export interface Output {
  write(text: string | Uint8Array): boolean;
  readonly isTTY?: boolean;
  /** Only on terminals. */
  readonly columns?: number;
}

export interface Input extends NodeJS.ReadableStream {
  readonly isTTY?: boolean;
  /** Bytes that were read ahead. */
  readonly readableLength?: number;
  /** Only on terminals. */
  setRawMode?(raw: boolean): unknown;
}

export interface Io {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: NodeJS.ProcessEnv;
  readonly clock: Clock;
  /** Aborted by the first SIGINT or SIGTERM, with a ChannelError `interrupted` as reason. */
  readonly signal: AbortSignal;
  /** Calls `fn` at each SIGUSR1; returns what ends that. Absent where there is no process of our own. */
  readonly onUserSignal?: (fn: () => void) => () => void;
}

export const DEFAULT_RUN_DIRECTORY = '/run/xenchannel';

/** What has to outlive a restart of the host. */
export const DEFAULT_STATE_DIRECTORY = '/var/lib/xenchannel';

export function stateDirectoryOf(env: NodeJS.ProcessEnv): string {
  const given = env['XENCHANNEL_STATEDIR'];
  return given === undefined || given === '' ? DEFAULT_STATE_DIRECTORY : given.replace(/(?<=.)\/+$/, '');
}

export function runDirectoryOf(env: NodeJS.ProcessEnv): string {
  const given = env['XENCHANNEL_RUNDIR'];
  return given === undefined || given === '' ? DEFAULT_RUN_DIRECTORY : given.replace(/(?<=.)\/+$/, '');
}
