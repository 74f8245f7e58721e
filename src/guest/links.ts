/**
 * The links of the guest's channels: `<root>/dev/xenchannel/<name>` -> `../hvcX` and its mirrors. Makes, replaces and
 * removes only symlinks that look like its own, only inside its directories, and each in one step. Knows no xenstore.
 */
import { lstat, mkdir, readdir, readlink, rename, rmdir, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ChannelError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { ChannelName } from '../console/name.js';

/** Below `<root>/dev`. The first is ours, the second stands in xen-pv-channel(7), the third is where KVM guests look. */
export const LINK_DIRECTORIES = ['xenchannel', 'xen-channel'] as const;
export const VIRTIO_DIRECTORY = 'virtio-ports';

/** What only our links look like: a path to a neighbouring hvc line. */
const OWN_TARGET = /^\.\.\/hvc[0-7]$/;
/** No channel name begins with a dot, so these never meet one. */
const TEMPORARY = /^\.xenchannel-[0-9]+$/;

export const linkTarget = (index: number): string => `../hvc${index}`;

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown';

type Standing = 'nothing' | 'foreign' | { readonly target: string };

/** What stands at `path` now. */
async function look(path: string): Promise<Standing> {
  try {
    const stat = await lstat(path);
    if (!stat.isSymbolicLink()) return 'foreign';
    const target = await readlink(path);
    return OWN_TARGET.test(target) ? { target } : 'foreign';
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(codeOf(error))) return 'nothing';
    throw error;
  }
}

export interface LinkSetOptions {
  readonly root: string;
  readonly log: Logger;
  readonly virtioPorts: boolean;
}

export class LinkSet {
  /** Where links are made. */
  readonly #wanted: readonly string[];
  /** Where links may be: an earlier agent may have been told to make more of them. */
  readonly #known: readonly string[];
  readonly #log: Logger;
  #temporary = 0;

  constructor({ root, log, virtioPorts }: LinkSetOptions) {
    this.#known = [...LINK_DIRECTORIES, VIRTIO_DIRECTORY].map((directory) => join(root, 'dev', directory));
    this.#wanted = virtioPorts ? this.#known : this.#known.slice(0, -1);
    this.#log = log;
  }

  /** The links that stand for a name, and the line to which all of them point. Changes nothing. */
  async find(name: ChannelName): Promise<{ links: string[]; index?: number }> {
    const links: string[] = [];
    const targets = new Set<string>();
    for (const directory of this.#known) {
      const standing = await look(join(directory, name));
      if (typeof standing === 'string') continue;
      links.push(join(directory, name));
      targets.add(standing.target);
    }
    const [target, ...others] = targets;
    return target === undefined || others.length > 0 ? { links } : { links, index: Number(target.slice(-1)) };
  }

  /**
   * Makes all links of one channel point at its line; returns those that do, and the reasons for the others. What is
   * right already is not touched.
   */
  async set(name: ChannelName, index: number): Promise<{ links: string[]; problems: string[] }> {
    const links: string[] = [];
    const problems: string[] = [];
    for (const directory of this.#wanted) {
      const path = join(directory, name);
      try {
        await this.#ownDirectory(directory);
        await this.#point(path, linkTarget(index));
        links.push(path);
      } catch (error) {
        problems.push(error instanceof ChannelError ? error.message : `${path} cannot be made: ${codeOf(error)}`);
      }
    }
    return { links, problems };
  }

  /** Removes every link of ours whose name is not in `keep`, and what a killed agent left half-made. */
  async sweep(keep: ReadonlySet<string>): Promise<void> {
    for (const directory of this.#known) {
      for (const entry of await this.#entries(directory)) {
        if (keep.has(entry) && this.#wanted.includes(directory)) continue;
        const path = join(directory, entry);
        const standing = await look(path);
        if (typeof standing === 'string') continue;
        await unlink(path).catch((error: unknown) => {
          if (codeOf(error) !== 'ENOENT') throw error;
        });
        if (!TEMPORARY.test(entry)) this.#log.log('info', 'link removed', { link: path });
      }
      if (keep.size === 0) await rmdir(directory).catch(() => {}); // stays if anything foreign is in it
    }
  }

  async #entries(directory: string): Promise<string[]> {
    try {
      // A symlink in the place of the directory would lead out of /dev.
      return (await lstat(directory)).isDirectory() ? await readdir(directory) : [];
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return [];
      throw error;
    }
  }

  async #ownDirectory(directory: string): Promise<void> {
    await mkdir(directory, { recursive: true, mode: 0o755 }).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
    });
    if ((await lstat(directory)).isDirectory()) return;
    throw new ChannelError('path-in-use', `${directory} is no directory; it is left alone`, { directory });
  }

  async #point(path: string, target: string): Promise<void> {
    const standing = await look(path);
    if (standing === 'foreign') {
      throw new ChannelError('path-in-use', `${path} was not made by xenchannel; it is left alone`, { path });
    }
    if (standing === 'nothing') await symlink(target, path);
    else if (standing.target !== target) await this.#replace(path, target);
    else return;
    this.#log.log('info', 'link made', { link: path, target });
  }

  /** In one step: nobody ever finds the name missing or the link half-made. */
  async #replace(path: string, target: string): Promise<void> {
    const temporary = join(path, '..', `.xenchannel-${++this.#temporary}`);
    await unlink(temporary).catch(() => {});
    await symlink(target, temporary);
    await rename(temporary, path);
  }
}
