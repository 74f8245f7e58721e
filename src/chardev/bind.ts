/**
 * Puts a listening Unix socket at a path without ever taking one from somebody: finds out what stands there, binds
 * beside it with the wanted mode and owners, and moves it into place. Knows nothing of what is spoken on the socket.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { ChannelError, type ErrorCode } from '../base/errors.js';
import { gidOf, uidOf } from '../sys/accounts.js';

/** sun_path has 108 bytes, one of them for the final NUL. */
const MAX_PATH_BYTES = 107;
const TEMPORARY_NAME_BYTES = 8;
const DEFAULT_BACKLOG = 64;
export const DEFAULT_SOCKET_MODE = 0o660;
/** Enough to pass through, not to see which domains have which channels. */
const DIRECTORY_MODE = 0o711;

export interface BindOptions {
  readonly path: string;
  readonly mode?: number;
  /** Names or numbers. */
  readonly owner?: string;
  readonly group?: string;
  /** Missing directories below this one are made; elsewhere the directory must exist. */
  readonly makeBelow?: string;
  readonly backlog?: number;
}

export interface BoundPath {
  /** Removes the socket file if it still is the one that was put there. */
  remove(): void;
}

/**
 * Lets `server` listen at the path. Throws ChannelError `path-too-long`, `path-not-a-socket`, `path-in-use`,
 * `permission-denied`, `account-unknown`.
 */
export async function listenAt(server: Server, options: BindOptions): Promise<BoundPath> {
  const { path, mode = DEFAULT_SOCKET_MODE } = options;
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH_BYTES) {
    throw new ChannelError('path-too-long', `socket path of ${bytes} bytes, the limit is ${MAX_PATH_BYTES}: ${path}`, {
      bytes,
      limit: MAX_PATH_BYTES,
    });
  }
  const uid = uidOf(options.owner);
  const gid = gidOf(options.group);
  makeDirectory(dirname(path), options.makeBelow);
  const stale = await isStale(path);
  const temporary = await listenAside(server, options);
  try {
    chmodSync(temporary, mode);
    if (uid !== -1 || gid !== -1) chownSync(temporary, uid, gid);
    // link() refuses where something has appeared meanwhile; rename() replaces the dead socket in one step.
    if (stale) renameSync(temporary, path);
    else {
      linkSync(temporary, path);
      unlinkSync(temporary);
    }
  } catch (cause) {
    removeQuietly(temporary);
    throw refusal(cause, path);
  }
  const { ino, dev } = lstatSync(path);
  return {
    remove() {
      try {
        const found = lstatSync(path);
        if (found.ino === ino && found.dev === dev) unlinkSync(path);
        // A directory we may have made goes with its last socket; ENOTEMPTY says it was not the last.
        if (isBelow(dirname(path), options.makeBelow)) rmdirSync(dirname(path));
      } catch {
        // Somebody has removed it already, or others still use the directory.
      }
    },
  };
}

/** True for a socket nobody listens on, false where nothing is; throws for everything else. */
async function isStale(path: string): Promise<boolean> {
  let found: ReturnType<typeof lstatSync>;
  try {
    found = lstatSync(path);
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return false;
    throw refusal(cause, path);
  }
  if (found?.isSocket() !== true) {
    throw new ChannelError('path-not-a-socket', `${path} exists and is no socket; it is left alone`, { path });
  }
  const errno = await connectProbe(path);
  if (errno === 'ECONNREFUSED') return true;
  if (errno === 'ENOENT') return false;
  if (errno === 'EACCES') throw refusal(Object.assign(new Error(errno), { code: errno }), path);
  throw new ChannelError('path-in-use', `another server listens on ${path}; it is left alone`, { path });
}

/** The errno of a connection attempt, undefined when it succeeds. Never waits: a Unix socket answers at once. */
function connectProbe(path: string): Promise<string | undefined> {
  return new Promise((settle) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      settle(undefined);
    });
    socket.once('error', (error) => settle(errnoOf(error)));
  });
}

/**
 * Binds to an unused name in the same directory; returns it. Nobody can have connected before it is renamed. The name
 * begins with a dot, as no channel's does, and is never used again: libuv removes what it once bound when the server
 * closes. Bound through the directory's descriptor, because the longer name need not fit into sun_path.
 */
async function listenAside(server: Server, { path, backlog = DEFAULT_BACKLOG }: BindOptions): Promise<string> {
  const name = `.${randomBytes(TEMPORARY_NAME_BYTES).toString('hex')}`;
  let directory: number | undefined;
  try {
    directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
    await listen(server, `/proc/self/fd/${directory}/${name}`, backlog);
  } catch (cause) {
    throw refusal(cause, path);
  } finally {
    if (directory !== undefined) closeSync(directory);
  }
  return join(dirname(path), name);
}

function listen(server: Server, path: string, backlog: number): Promise<void> {
  return new Promise((settle, fail) => {
    server.once('error', fail);
    // Nobody but us until mode and owners are right: bind(2) happens inside listen().
    const umask = process.umask(0o177);
    try {
      server.listen(path, backlog, () => {
        server.off('error', fail);
        settle();
      });
    } finally {
      process.umask(umask);
    }
  });
}

export function makeDirectory(directory: string, below: string | undefined): void {
  if (directory !== below && !isBelow(directory, below)) {
    // libuv reports a missing directory at bind(2) as EACCES.
    if (existsSync(directory)) return;
    throw refusal(Object.assign(new Error('no directory'), { code: 'ENOENT' }), `${directory}/`);
  }
  try {
    mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
  } catch (cause) {
    throw refusal(cause, directory);
  }
}

export function isBelow(directory: string, top: string | undefined): boolean {
  return top !== undefined && directory.startsWith(`${top}/`);
}

function refusal(cause: unknown, path: string): ChannelError {
  const errno = errnoOf(cause) ?? String(cause);
  const code: ErrorCode =
    errno === 'EACCES' || errno === 'EPERM'
      ? 'permission-denied'
      : errno === 'EEXIST' || errno === 'EADDRINUSE'
        ? 'path-in-use'
        : 'system-call-failed';
  return new ChannelError(code, `socket ${path} cannot be made: ${errno}`, { path, errno }, { cause });
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Already renamed or never made.
  }
}
