/**
 * Which host end a channel gets. Knows nothing of what it is used for.
 */
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import type { Chardev } from '../chardev/chardev.js';
import { LogFile } from '../chardev/log-file.js';
import { PtyChardev } from '../chardev/pty.js';
import { SocketChardev } from '../chardev/socket.js';
import { SocketClientChardev } from '../chardev/socket-client.js';
import { TeeChardev } from '../chardev/tee.js';
import type { ChannelConfig } from './discovery.js';

export interface ChardevContext {
  readonly clock: Clock;
  readonly log: Logger;
  readonly runDirectory: string;
  /** For how long is waited between attempts to connect; default Math.random. */
  readonly random?: () => number;
}

export type ChardevMaker = (config: ChannelConfig, context: ChardevContext) => Chardev;

/** What was asked for, and the log beside it. */
export const defaultChardev: ChardevMaker = (config, context) => {
  const chardev = hostEnd(config, context);
  if (config.log === undefined) return chardev;
  const { clock, log, runDirectory } = context;
  return new TeeChardev(chardev, new LogFile({ ...config.log, clock, log, makeBelow: runDirectory }));
};

function hostEnd(config: ChannelConfig, { clock, log, runDirectory, random = Math.random }: ChardevContext): Chardev {
  const { path, mode, owner, group, connection, connect } = config;
  if (connect) return new SocketClientChardev({ path, clock, random, log });
  const made = {
    path,
    clock,
    log,
    makeBelow: runDirectory,
    ...(mode === undefined ? {} : { mode }),
    ...(owner === undefined ? {} : { owner }),
    ...(group === undefined ? {} : { group }),
  };
  return connection === 'pty' ? new PtyChardev(made) : new SocketChardev(made);
}
