/** Finds the host end of a channel and connects to it, as any other program in dom0 would. Knows no terminal. */
import { connect, type Socket } from 'node:net';
import type { StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { printable } from '../console/name.js';
import { pickChannel, readChannels, type Server } from './channels.js';
import { describeDomain, resolveDomain } from './domains.js';
import type { Dom0Environment } from './environment.js';

export interface ChannelTarget {
  readonly domain: string;
  readonly name: string;
  readonly deviceId?: number;
}

export interface HostEnd {
  readonly domid: number;
  readonly deviceId: number;
  readonly name: string;
  readonly server: Server;
  readonly path: string;
  /** `channel "a" of domain 1 (db1)`. */
  readonly label: string;
}

/** Throws `domain-not-found`, `channel-not-found`, `channel-ambiguous`; `usage-invalid` for a channel without a socket. */
export async function findHostEnd(
  store: StoreOperations,
  { domain: text, name, deviceId }: ChannelTarget,
  env: Dom0Environment,
): Promise<HostEnd> {
  const domain = await resolveDomain(store, text);
  const { channels } = await readChannels(store, domain.domid, env.backendDomid);
  const channel = pickChannel(channels, { domain, name, deviceId });
  const label = `channel ${printable(name)} of domain ${describeDomain(domain)}`;
  if (channel.connection !== 'socket' || channel.path === undefined) {
    throw new ChannelError('usage-invalid', `${label} is no socket: open its terminal with a terminal program`, {
      connection: channel.connection ?? null,
    });
  }
  return { domid: channel.domid, deviceId: channel.deviceId, name, server: channel.server, path: channel.path, label };
}

/** The connected socket, half-open allowed. Throws `daemon-unreachable` or `permission-denied`. */
export function openHostEnd({ path, label }: Pick<HostEnd, 'path' | 'label'>, signal?: AbortSignal): Promise<Socket> {
  return new Promise((settle, fail) => {
    const socket = connect({ path, allowHalfOpen: true });
    const onAbort = (): void => {
      socket.destroy();
      fail(signal?.reason as Error);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('connect', () => {
      signal?.removeEventListener('abort', onAbort);
      socket.removeAllListeners('error');
      settle(socket);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      signal?.removeEventListener('abort', onAbort);
      fail(unreachable(error, { path, label }));
    });
  });
}

function unreachable(error: NodeJS.ErrnoException, { path, label }: Pick<HostEnd, 'path' | 'label'>): ChannelError {
  const denied = error.code === 'EACCES' || error.code === 'EPERM';
  const why = denied
    ? `you may not open ${path}: the channel's --mode, --owner and --group say who may`
    : `nobody serves ${path}: is the daemon running?`;
  return new ChannelError(
    denied ? 'permission-denied' : 'daemon-unreachable',
    `${label} cannot be opened (${error.code ?? error.message}): ${why}`,
    { path, errno: error.code ?? null },
    { cause: error },
  );
}
