/**
 * Where a log stands: opens it without ever following or touching what is not a file of ours, and turns it over. Knows
 * nothing of what is written.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { ChannelError } from '../base/errors.js';
import { gidOf, uidOf } from '../sys/accounts.js';
import { makeDirectory } from './bind.js';

export interface LogPlace {
  readonly path: string;
  /** For files that we make; one that is there already keeps its own. */
  readonly mode?: number;
  /** Names or numbers. */
  readonly owner?: string;
  readonly group?: string;
  /** Missing directories below this one are made; elsewhere the directory must exist. */
  readonly makeBelow?: string;
}

export interface LogDescriptor {
  readonly fd: number;
  size: number;
  /** False when the last line in the file is unfinished. */
  readonly endsWithLine: boolean;
  /** Somebody has moved or removed the file: another one belongs at the path. */
  isReplaced(): boolean;
  /** Takes back what a write that failed has left beyond `size`. */
  cutBack(): void;
  close(): void;
}

export const DEFAULT_LOG_MODE = 0o640;
/** Reading is for the last byte. O_NONBLOCK: opening a FIFO must not wait for its reader. */
const FLAGS = constants.O_RDWR | constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

/** Throws ChannelError `path-not-a-file`, `permission-denied`, `system-call-failed`, `account-unknown`. */
export function openLog(place: LogPlace): LogDescriptor {
  const { path, makeBelow } = place;
  makeDirectory(dirname(path), makeBelow);
  try {
    const fd = openExisting(path);
    return fd === undefined ? describe(create(place), place) : describe(fd, place);
  } catch (cause) {
    throw cause instanceof ChannelError ? cause : refusal(cause, path);
  }
}

/** `<path>` becomes `<path>.1`, that becomes `.2`, and what would be beyond `keep` goes. */
export function rotate(path: string, keep: number): void {
  if (keep <= 0) {
    rmSync(path, { force: true });
    return;
  }
  for (let number = keep - 1; number >= 0; number--) {
    try {
      renameSync(number === 0 ? path : `${path}.${number}`, `${path}.${number + 1}`);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
}

function openExisting(path: string): number | undefined {
  try {
    return openSync(path, FLAGS);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function create({ path, mode = DEFAULT_LOG_MODE, owner, group }: LogPlace): number {
  const uid = uidOf(owner);
  const gid = gidOf(group);
  const fd = openSync(path, FLAGS | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    if (uid !== -1 || gid !== -1)
      fchownSync(fd, uid === -1 ? fstatSync(fd).uid : uid, gid === -1 ? fstatSync(fd).gid : gid);
    fchmodSync(fd, mode);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function describe(fd: number, { path, owner }: LogPlace): LogDescriptor {
  const found = fstatSync(fd);
  const { ino, dev, size } = found;
  const isOurs = found.uid === process.geteuid?.() || found.uid === uidOf(owner);
  // A second name may be how somebody gets us to write into a file of another's.
  if (!found.isFile() || found.nlink !== 1 || !isOurs) {
    closeSync(fd);
    throw new ChannelError('path-not-a-file', `${path} is no regular file of ours with one name; it is left alone`, {
      path,
    });
  }
  const last = Buffer.alloc(1, 0x0a);
  if (size > 0) readSync(fd, last, 0, 1, size - 1);
  return {
    fd,
    size,
    endsWithLine: last[0] === 0x0a,
    isReplaced() {
      const now = statSync(path, { throwIfNoEntry: false });
      return now === undefined || now.ino !== ino || now.dev !== dev;
    },
    cutBack() {
      try {
        ftruncateSync(fd, this.size);
      } catch {
        // Then a piece stands in the file twice, once unfinished: better than not at all.
      }
    },
    close: () => closeSync(fd),
  };
}

function refusal(cause: unknown, path: string): ChannelError {
  const errno = errnoOf(cause) ?? String(cause);
  // ELOOP is a symbolic link, ENXIO a FIFO or a socket.
  if (errno === 'ELOOP' || errno === 'ENXIO' || errno === 'EISDIR') {
    return new ChannelError('path-not-a-file', `${path} is no regular file (${errno}); it is left alone`, {
      path,
      errno,
    });
  }
  const code = errno === 'EACCES' || errno === 'EPERM' ? 'permission-denied' : 'system-call-failed';
  return new ChannelError(code, `log ${path} cannot be opened: ${errno}`, { path, errno }, { cause });
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
