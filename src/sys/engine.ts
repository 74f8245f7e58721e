/**
 * Settings of the JavaScript engine that suit a process that moves bytes for a long time. For the whole process, and
 * before it has much in memory: the daemon's first act.
 */
import { setFlagsFromString } from 'node:v8';

export function tuneEngine(): void {
  // What a turn allocates dies with it: a small young generation costs no speed, stays in the processor's cache, and a
  // burst does not leave 32 MB behind.
  setFlagsFromString('--semi-space-growth-factor=1');
  // The way of a byte is short and always the same. By default it is optimized after some megabytes only, which on a slow
  // machine cost several times as much until then.
  setFlagsFromString(optimizingSoon(process.versions.v8));
}

/**
 * Less than half of the default (67584 and 3000), under the name that this V8 has for it: Node 20 (V8 11.3) and those after it.
 * The engine complains on stderr of a name that it does not know.
 */
function optimizingSoon(v8Version: string): string {
  return v8Version.startsWith('11.3.') ? '--interrupt-budget=30000' : '--invocation-count-for-turbofan=1300';
}
