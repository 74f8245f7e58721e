/**
 * Which host end a channel gets. Knows nothing of what it is used for.
 */
import type { Clock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { Chardev } from '../chardev/chardev.js';
import { SocketChardev } from '../chardev/socket.js';
import type { ChannelConfig } from './discovery.js';

export interface ChardevContext {
  readonly clock: Clock;
  readonly log: Logger;
  readonly runDirectory: string;
}

export type ChardevMaker = (config: ChannelConfig, context: ChardevContext) => Chardev;

/** Sockets, and for the rest a host end that says it is not there. */
export const defaultChardev: ChardevMaker = (config, { clock, log, runDirectory }) => {
  const { path, mode, owner, group, connection } = config;
  if (connection !== 'socket') return unsupportedChardev(connection, path);
  return new SocketChardev({
    path,
    clock,
    log,
    makeBelow: runDirectory,
    ...(mode === undefined ? {} : { mode }),
    ...(owner === undefined ? {} : { owner }),
    ...(group === undefined ? {} : { group }),
  });
};

/** Nobody can connect, and that is said. The guest is drained into its spool all the same. */
function unsupportedChardev(kind: string, path: string): Chardev {
  const nothing = new Uint8Array(0);
  return {
    label: `${kind}:${path}`,
    connected: false,
    viewed: false,
    open: async () => {
      throw new ChannelError(
        'chardev-unsupported',
        `this daemon cannot make a ${kind}: nobody can connect to ${path}`,
        {
          kind,
          path,
        },
      );
    },
    write: () => 0,
    show: () => {},
    pauseInput: () => {},
    resumeInput: () => {},
    close: async ({ tail = nothing } = {}) => tail,
    abandon: () => {},
    figures: () => ({ connected: false }),
  };
}
