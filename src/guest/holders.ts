/**
 * Who has a terminal open: looks through /proc/<pid>/fd. A heuristic, and meant as one: it misses processes that this
 * one may not see and terminals reached through a second device node. Run as root it sees all of the guest.
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';

export interface Holder {
  readonly pid: number;
  readonly command: string;
}

/** More processes or descriptors than that are not looked at: a survey must end. */
const MAX_PROCESSES = 32_768;
const MAX_DESCRIPTORS = 4_096;

const none = (): string[] => [];

async function pathsOpenIn(proc: string, pid: number): Promise<string[]> {
  const directory = join(proc, String(pid), 'fd');
  const descriptors = (await readdir(directory).catch(none)).slice(0, MAX_DESCRIPTORS);
  return Promise.all(descriptors.map((fd) => readlink(join(directory, fd)).catch(() => '')));
}

/** For each of `devices` (real paths) a process that has it open, if there is one. `ignored` are pids to pass over. */
export async function findHolders(
  devices: ReadonlySet<string>,
  { proc, ignored }: { readonly proc: string; readonly ignored: ReadonlySet<number> },
): Promise<Map<string, Holder>> {
  const holders = new Map<string, Holder>();
  const pids = (await readdir(proc).catch(none)).filter((entry) => /^[0-9]+$/.test(entry)).map(Number);
  for (const pid of pids.slice(0, MAX_PROCESSES)) {
    if (ignored.has(pid)) continue;
    for (const path of await pathsOpenIn(proc, pid)) {
      if (!devices.has(path) || holders.has(path)) continue;
      const command = await readFile(join(proc, String(pid), 'comm'), 'utf8').catch(() => '?');
      holders.set(path, { pid, command: command.trim() });
    }
  }
  return holders;
}
