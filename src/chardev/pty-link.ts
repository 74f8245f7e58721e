/**
 * A lasting name for a PTY: a symbolic link that never takes the place of anything but a dead link of the same kind, and
 * never outlives its PTY in an orderly end. Knows nothing of what is spoken on the line.
 */
import { randomBytes } from 'node:crypto';
import { lstatSync, readlinkSync, renameSync, rmdirSync, statSync, symlinkSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { ChannelError, type ErrorCode } from '../base/errors.js';
import { isBelow, makeDirectory } from './bind.js';

const TARGET = /^\/dev\/pts\/[0-9]+$/;

export interface PtyLink {
  /** Removes the link if it still is the one that was put there. */
  remove(): void;
}

export interface PtyLinkOptions {
  readonly path: string;
  /** `/dev/pts/N`; its mode and owners are set already. */
  readonly target: string;
  /** Missing directories below this one are made; elsewhere the directory must exist. */
  readonly makeBelow?: string | undefined;
}

/** Throws ChannelError `path-not-a-link`, `path-in-use`, `permission-denied`, `system-call-failed`. */
export function linkPty({ path, target, makeBelow }: PtyLinkOptions): PtyLink {
  makeDirectory(dirname(path), makeBelow);
  try {
    if (isDeadLink(path, target)) replaceLink(path, target);
    // symlink() refuses where something has appeared meanwhile.
    else symlinkSync(target, path);
  } catch (cause) {
    throw cause instanceof ChannelError ? cause : refusal(cause, path);
  }
  const { ino, dev } = lstatSync(path);
  return {
    remove() {
      try {
        const found = lstatSync(path);
        if (found.ino === ino && found.dev === dev && readlinkSync(path) === target) unlinkSync(path);
        // A directory we may have made goes with its last channel; ENOTEMPTY says it was not the last.
        if (isBelow(dirname(path), makeBelow)) rmdirSync(dirname(path));
      } catch {
        // Somebody has removed it already, or others still use the directory.
      }
    },
  };
}

/** True for a link that a daemon before this one left, false where nothing is; throws for everything else. */
function isDeadLink(path: string, ourTarget: string): boolean {
  const link = lstatSync(path, { throwIfNoEntry: false });
  if (link === undefined) return false;
  if (!link.isSymbolicLink()) {
    throw new ChannelError('path-not-a-link', `${path} exists and is no symbolic link; it is left alone`, { path });
  }
  const target = readlinkSync(path);
  // Our own PTY has got the number that was free again: so the one before it is gone.
  if (target === ourTarget) return true;
  const pointedAt = statSync(path, { throwIfNoEntry: false });
  if (pointedAt === undefined) return true;
  if (!TARGET.test(target) || link.uid !== process.geteuid?.()) {
    throw new ChannelError('path-not-a-link', `${path} leads to ${target.slice(0, 80)}; it is left alone`, { path });
  }
  // A PTY is made before the link to it. One that is younger only got the number of the PTY that was meant: I/O never
  // changes the inode's change time (linux:drivers/tty/tty_io.c, tty_update_time), owners and mode are set before.
  if (pointedAt.ctimeMs > link.ctimeMs) return true;
  throw new ChannelError('path-in-use', `another PTY is served at ${path} (${target}); it is left alone`, {
    path,
    target,
  });
}

function replaceLink(path: string, target: string): void {
  const temporary = `${path}.${randomBytes(4).toString('hex')}`;
  symlinkSync(target, temporary);
  try {
    renameSync(temporary, path);
  } catch (cause) {
    unlinkSync(temporary);
    throw cause;
  }
}

function refusal(cause: unknown, path: string): ChannelError {
  const errno = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  const code: ErrorCode =
    errno === 'EACCES' || errno === 'EPERM'
      ? 'permission-denied'
      : errno === 'EEXIST'
        ? 'path-in-use'
        : 'system-call-failed';
  return new ChannelError(code, `the link ${path} cannot be made: ${errno}`, { path, errno }, { cause });
}
