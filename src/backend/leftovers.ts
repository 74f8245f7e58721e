/** Removes what former daemons left for channels that are not there any more, and says so. */
import type { Logger } from '../base/log.js';

interface LeftFiles {
  discardExcept(known: (domid: number, deviceId: number) => boolean): string[];
}

export function discardLeftovers(
  kinds: Readonly<Record<string, LeftFiles>>,
  known: (domid: number, deviceId: number) => boolean,
  log: Logger,
): void {
  for (const [what, files] of Object.entries(kinds)) {
    const names = files.discardExcept(known);
    if (names.length > 0) log.log('warn', `${what} of channels that are gone were removed`, { names });
  }
}
