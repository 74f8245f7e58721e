/**
 * Which device ids a channel may have. The limits are those of Linux guests; knows nothing of stores.
 * Source: linux:drivers/tty/hvc/hvc_xen.c (xencons_probe), hvc_console.h (HVC_ALLOC_TTY_ADAPTERS).
 */
import { ChannelError } from '../base/errors.js';

/** 0 is the primary console, which has its own rules and is never a channel. */
export const FIRST_DEVICE_ID = 1;
/** hvc has 8 ttys and the primary console takes one of them. */
export const LAST_SERVED_DEVICE_ID = 7;
/** Linux takes the last digit of the device's name for its number: 10 is refused and 11 collides with 1. */
export const LAST_KNOWN_DEVICE_ID = 9;

/** Throws `device-id-out-of-range`. Returns a warning where the id is legal, but may stay without a tty in the guest. */
export function checkDeviceId(deviceId: number): string | undefined {
  if (!Number.isInteger(deviceId) || deviceId < FIRST_DEVICE_ID || deviceId > LAST_KNOWN_DEVICE_ID) {
    throw new ChannelError(
      'device-id-out-of-range',
      `device id ${deviceId} is outside ${FIRST_DEVICE_ID}-${LAST_KNOWN_DEVICE_ID}: Linux guests read only the last digit of the id`,
      { deviceId, first: FIRST_DEVICE_ID, last: LAST_KNOWN_DEVICE_ID },
    );
  }
  if (deviceId <= LAST_SERVED_DEVICE_ID) return undefined;
  return `device id ${deviceId} is above ${LAST_SERVED_DEVICE_ID}: a Linux guest with a primary console has ttys for ${LAST_SERVED_DEVICE_ID} channels, so this one works only if others are missing`;
}

/** The lowest id that Linux serves and nobody has. Throws `device-ids-exhausted`. */
export function lowestFreeDeviceId(taken: ReadonlySet<number>): number {
  for (let deviceId = FIRST_DEVICE_ID; deviceId <= LAST_SERVED_DEVICE_ID; deviceId++) {
    if (!taken.has(deviceId)) return deviceId;
  }
  throw new ChannelError(
    'device-ids-exhausted',
    `all device ids from ${FIRST_DEVICE_ID} to ${LAST_SERVED_DEVICE_ID} are taken: a Linux guest has ttys for ${LAST_SERVED_DEVICE_ID} channels; detach one first`,
    { first: FIRST_DEVICE_ID, last: LAST_SERVED_DEVICE_ID, taken: taken.size },
  );
}
