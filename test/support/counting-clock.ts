/** The system clock, counting the timers that are still to fire: what a leak test looks at. */
import { type Clock, systemClock } from '../../src/base/clock.js';

export function countingClock(): { readonly clock: Clock; readonly pending: () => number } {
  const timers = new Set<object>();
  const clock: Clock = {
    now: () => systemClock.now(),
    after: (delayMs, fn) => {
      const timer = systemClock.after(delayMs, () => {
        timers.delete(timer);
        fn();
      });
      timers.add(timer);
      return {
        cancel: () => {
          timers.delete(timer);
          timer.cancel();
        },
      };
    },
  };
  return { clock, pending: () => timers.size };
}
