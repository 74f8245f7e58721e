/**
 * Who opens and closes the lines of this process. One inotify instance for all of them, since a user has 128 of them by
 * default; it is there as long as there is a line.
 */
import { OpenCloseWatcher } from '../sys/inotify.js';

let shared: { readonly watcher: OpenCloseWatcher; lines: number } | undefined;

/** Calls `onChange` after somebody opened or closed `path`; returns the function that ends it. */
export function watchLine(path: string, onChange: () => void): () => void {
  shared ??= { watcher: new OpenCloseWatcher(), lines: 0 };
  const ours = shared;
  const stop = ours.watcher.watch(path, onChange);
  ours.lines++;
  let stopped = false;
  return () => {
    if (stopped) return;
    stopped = true;
    stop();
    if (--ours.lines > 0) return;
    ours.watcher.close();
    if (shared === ours) shared = undefined;
  };
}
