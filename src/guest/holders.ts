/**
 * Who has a terminal open: looks through /proc/<pid>/fd. A heuristic, and meant as one: it misses processes that this
 * one may not see and terminals reached through a second device node. Run as root it sees all of the guest.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface Holder {
  readonly pid: number;
  readonly command: string;
}

/** More processes or descriptors than that are not looked at: a survey must end. */
const MAX_PROCESSES = 32_768;
const MAX_DESCRIPTORS = 4_096;
/**
 * After so many descriptors others get their turn, which makes a few milliseconds. One look takes microseconds; to hand
 * each to a thread, as the asynchronous functions do, takes several times as long.
 */
const TURN_DESCRIPTORS = 512;

/** Kernel threads have no descriptors, and a process may be gone. */
function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function target(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return '';
  }
}

function commandOf(proc: string, pid: number): string {
  try {
    return readFileSync(join(proc, String(pid), 'comm'), 'utf8').trim();
  } catch {
    return '?';
  }
}

/** For each of `devices` (real paths) a process that has it open, if there is one. `ignored` are pids to pass over. */
export async function findHolders(
  devices: ReadonlySet<string>,
  { proc, ignored }: { readonly proc: string; readonly ignored: ReadonlySet<number> },
): Promise<Map<string, Holder>> {
  const holders = new Map<string, Holder>();
  if (devices.size === 0) return holders;
  const pids = list(proc)
    .filter((entry) => /^[0-9]+$/.test(entry))
    .map(Number)
    .filter((pid) => !ignored.has(pid));
  let looked = 0;
  for (const pid of pids.slice(0, MAX_PROCESSES)) {
    const directory = `${proc}/${pid}/fd`;
    const descriptors = list(directory).slice(0, MAX_DESCRIPTORS);
    for (const fd of descriptors) {
      const path = target(`${directory}/${fd}`);
      if (!devices.has(path) || holders.has(path)) continue;
      holders.set(path, { pid, command: commandOf(proc, pid) });
      if (holders.size === devices.size) return holders;
    }
    // A process without descriptors costs about as much as one with a few.
    looked += descriptors.length + 4;
    if (looked < TURN_DESCRIPTORS) continue;
    looked = 0;
    await new Promise<void>((turn) => setImmediate(turn));
  }
  return holders;
}
