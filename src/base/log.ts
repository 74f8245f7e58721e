/**
 * JSON-lines logging: one line per state change, none per byte. Writes where it is told; knows no file or socket.
 */
import type { Clock } from './clock.js';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  log(level: LogLevel, msg: string, fields?: LogFields): void;
  /** The same log with `fields` added to each line. */
  with(fields: LogFields): Logger;
}

export type LogOptions = {
  readonly clock: Clock;
  /** Receives one complete line, newline included. */
  readonly write: (line: string) => void;
  readonly level?: LogLevel;
};

const RANK: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

export function createLogger({ clock, write, level = 'info' }: LogOptions, base: LogFields = {}): Logger {
  return {
    log(lineLevel, msg, fields = {}) {
      if (RANK[lineLevel] < RANK[level]) return;
      write(
        `${JSON.stringify({ level: lineLevel, at: new Date(clock.now()).toISOString(), msg, ...base, ...fields })}\n`,
      );
    },
    with: (fields) => createLogger({ clock, write, level }, { ...base, ...fields }),
  };
}

export const silentLogger: Logger = { log: () => {}, with: () => silentLogger };
