/** Finds the host end of a channel and connects to it, as any other program in dom0 would. Knows no terminal. */
import { closeSync, constants, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { isatty, ReadStream } from 'node:tty';
import type { StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { defaultPath } from '../console/layout.js';
import { parseChannelName, printable } from '../console/name.js';
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
  /** A link to a terminal stands at the path, not a socket. */
  readonly terminal: boolean;
  /** `channel "a" of domain 1 (db1)`. */
  readonly label: string;
}

/** What is needed to open it. */
export type OpenableEnd = Pick<HostEnd, 'path' | 'label'> & Partial<Pick<HostEnd, 'terminal'>>;

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
  const { deviceId: id, server, connection, connects } = channel;
  if (connects) {
    throw new ChannelError('usage-invalid', `${label} has a client already: the server at ${channel.path}`, {
      path: channel.path ?? null,
    });
  }
  if (connection === 'pty' && server === 'native') {
    const path = channel.path ?? defaultPath(env.runDirectory, domain.domid, parseChannelName(name));
    return { domid: domain.domid, deviceId: id, name, server, path, label, terminal: true };
  }
  if (connection !== 'socket' || channel.path === undefined) {
    throw new ChannelError('usage-invalid', `${label} is no socket: open its terminal with a terminal program`, {
      connection: connection ?? null,
    });
  }
  return { domid: channel.domid, deviceId: id, name, server, path: channel.path, label, terminal: false };
}

/** The connected socket, half-open allowed. Throws `daemon-unreachable` or `permission-denied`. */
export function openHostEnd(end: OpenableEnd, signal?: AbortSignal): Promise<Socket> {
  const { path, label } = end;
  if (end.terminal === true) return openTerminal(end);
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

/** Without becoming its session's terminal; the daemon has made it raw. */
async function openTerminal(end: OpenableEnd): Promise<Socket> {
  let fd: number;
  try {
    fd = openSync(end.path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  } catch (error) {
    throw unreachable(error as NodeJS.ErrnoException, end);
  }
  if (!isatty(fd)) {
    closeSync(fd);
    throw unreachable(Object.assign(new Error('no terminal'), { code: 'ENOTTY' }), end);
  }
  const stream = new ReadStream(fd);
  // libuv opens the terminal once more and leaves ours to us.
  stream.once('close', () => closeSync(fd));
  return stream;
}

function unreachable(error: NodeJS.ErrnoException, { path, label }: OpenableEnd): ChannelError {
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
