/** JSON lines on stderr for the commands that stay. */
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { createLogger, type Logger, type LogLevel } from '../base/log.js';
import type { Io } from './io.js';

const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

export function addLogOption(command: Command, fallback: LogLevel): Command {
  return command.option('--log-level <level>', LEVELS.join(', '), parseLevel, fallback);
}

function parseLevel(text: string): LogLevel {
  const level = LEVELS.find((known) => known === text);
  if (level === undefined) throw new InvalidArgumentError(`It must be one of ${LEVELS.join(', ')}.`);
  return level;
}

export function loggerOf(io: Io, level: LogLevel): Logger {
  return createLogger({ clock: io.clock, level, write: (line) => void io.stderr.write(line) });
}
