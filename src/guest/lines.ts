/**
 * What the agent asks of the guest's hvc terminals. The interface between the reasoning (resolve.ts, agent.ts) and the
 * operating system (tty.ts); tests implement it over arrays. Knows neither xenstore nor names.
 */

/**
 * Only /dev/hvc0 to /dev/hvc7 exist, whatever the number of consoles (linux:drivers/tty/hvc/hvc_console.h,
 * HVC_ALLOC_TTY_ADAPTERS).
 */
export const LINE_COUNT = 8;

/** One terminal line that we hold open. Never reads further than the caller asks, byte by byte. */
export interface HeldLine {
  readonly index: number;
  /**
   * Sets raw mode and looks whether it took. Throws ChannelError `system-call-failed`. A line that is raw already is
   * left as it is.
   */
  makeRaw(): Promise<void>;
  /** One byte if one is waiting; undefined if none is. Throws when the line has hung up. */
  readByte(): number | undefined;
  /** How many bytes wait to be read; undefined where that cannot be asked. Reads nothing. */
  waiting(): number | undefined;
  /**
   * Calls `fn` once when there is something to read, a hang-up included; returns what ends the wait. undefined where
   * that cannot be had: then one has to look from time to time. Reads nothing.
   */
  whenReadable?(fn: () => void): (() => void) | undefined;
  /** False once the line has hung up (unplug, resume). Reads nothing. */
  alive(): boolean;
  /** Gives the line back: raw mode ends unless somebody else has it open. A second call does nothing. */
  close(): void;
}

/**
 * `absent`: no console is behind the line. `reserved`: the primary console or a kernel console. `busy`: another
 * process has it open. `free`: nobody uses it; only opening it tells whether a console is there.
 */
export type LineState = 'absent' | 'reserved' | 'busy' | 'free';

export interface LineView {
  readonly index: number;
  readonly state: LineState;
  /** For busy and reserved lines: the reason, for a person. */
  readonly reason?: string;
}

export interface TtyLines {
  /**
   * All lines as they are now. `kept` are lines of channels, shared with their applications: those come back as `free`.
   * `primary`: the domain has a primary console, which owns index 0.
   */
  survey(options: { readonly primary: boolean; readonly kept: ReadonlySet<number> }): Promise<LineView[]>;
  /**
   * Opens a line without becoming its session's terminal and without reading. undefined if no console is behind it.
   * Throws ChannelError.
   */
  open(index: number): Promise<HeldLine | undefined>;
}
