/**
 * One writer at a time for a file that several processes change: a lock file with the owner's process id, which a dead
 * owner does not keep. Knows nothing of what is locked.
 */
import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import type { Clock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';

/** A change takes milliseconds. */
const WAIT_MS = 5000;
const LOOK_AGAIN_MS = 20;

/** Writers of this process stand in line here; the file keeps off the others. */
const lines = new Map<string, Promise<void>>();

/** Throws `state-locked`. */
export async function withFileLock<T>(path: string, clock: Clock, work: () => Promise<T>): Promise<T> {
  const before = lines.get(path) ?? Promise.resolve();
  const mine = before.then(() => locked(path, clock, work));
  const settled = mine.then(
    () => {},
    () => {},
  );
  lines.set(path, settled);
  try {
    return await mine;
  } finally {
    if (lines.get(path) === settled) lines.delete(path);
  }
}

async function locked<T>(path: string, clock: Clock, work: () => Promise<T>): Promise<T> {
  await take(path, clock);
  try {
    return await work();
  } finally {
    await unlink(path).catch(() => {}); // whoever removed it has ended our lock; the work is done
  }
}

async function take(path: string, clock: Clock): Promise<void> {
  const endMs = clock.now() + WAIT_MS;
  for (;;) {
    if (await create(path)) return;
    if (await breakDead(path)) continue;
    if (clock.now() >= endMs) {
      throw new ChannelError('state-locked', `${path} has been held by another program for ${WAIT_MS / 1000} s`, {
        path,
      });
    }
    await new Promise<void>((settle) => void clock.after(LOOK_AGAIN_MS, settle));
  }
}

/** The file has its content from the beginning: a crash leaves no lock without an owner. */
async function create(path: string): Promise<boolean> {
  const beside = `${path}.${process.pid}`;
  await writeFile(beside, String(process.pid), { mode: 0o600 });
  try {
    await link(beside, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  } finally {
    await unlink(beside);
  }
}

/** True: the lock of a dead owner was taken away. */
async function breakDead(path: string): Promise<boolean> {
  const owner = await readFile(path, 'utf8').catch(() => undefined);
  if (owner === undefined || !/^\d{1,10}$/.test(owner) || isAlive(Number(owner))) return false;
  // Of two that see it, one gets it; the other finds nothing to rename.
  const aside = `${path}.${process.pid}.dead`;
  try {
    await rename(path, aside);
    await unlink(aside);
    return true;
  } catch {
    return false;
  }
}

/** Our own writers stand in line already: a lock with our id is from a process that had it before us. */
function isAlive(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
