/**
 * The numbers and structures of /dev/xen/gntdev and /dev/xen/evtchn. Does no I/O.
 * Sources: linux:include/uapi/xen/gntdev.h and evtchn.h. Everything is in the machine's own byte order, hence the typed
 * arrays.
 */

export const GNTDEV_PATH = '/dev/xen/gntdev';
export const EVTCHN_PATH = '/dev/xen/evtchn';

/** Pages that Xen grants have 4 KiB, also under kernels with larger ones. */
export const GRANT_PAGE_BYTES = 4096;
/** xen:xen/include/public/xen.h, DOMID_FIRST_RESERVED: no domain has this id or a higher one. */
export const FIRST_RESERVED_DOMID = 0x7ff0;

/** _IOC(_IOC_NONE, type, nr, size): these headers give no direction. */
const ioctlNumber = (type: 'E' | 'G', nr: number, sizeBytes: number): number =>
  sizeBytes * 0x10000 + type.charCodeAt(0) * 0x100 + nr;

export const GNTDEV = {
  mapGrantRef: ioctlNumber('G', 0, 24),
  unmapGrantRef: ioctlNumber('G', 1, 16),
  setUnmapNotify: ioctlNumber('G', 7, 16),
} as const;

export const EVTCHN = {
  bindInterdomain: ioctlNumber('E', 1, 8),
  unbind: ioctlNumber('E', 3, 4),
  notify: ioctlNumber('E', 4, 4),
  reset: ioctlNumber('E', 5, 0),
  restrictDomid: ioctlNumber('E', 6, 2),
} as const;

/** UNMAP_NOTIFY_SEND_EVENT. Never CLEAR_BYTE: a cleared `connection` byte of a console ring means "connected". */
const UNMAP_NOTIFY_SEND_EVENT = 2;

export const isU32 = (value: number): boolean => Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
export const isDomid = (value: number): boolean =>
  Number.isInteger(value) && value >= 0 && value < FIRST_RESERVED_DOMID;

/** struct ioctl_gntdev_map_grant_ref: u32 count, u32 pad, u64 index (out), { u32 domid, u32 ref }. */
export class MapGrantRef {
  readonly bytes: BigUint64Array;

  constructor(domid: number, grantReference: number) {
    this.bytes = new BigUint64Array(3);
    new Uint32Array(this.bytes.buffer).set([1, 0, 0, 0, domid, grantReference]);
  }

  /** The offset to give to mmap; valid after the ioctl. */
  get index(): bigint {
    return this.bytes[1] ?? 0n;
  }
}

/** struct ioctl_gntdev_unmap_grant_ref: u64 index, u32 count, u32 pad. */
export function encodeUnmapGrantRef(index: bigint): BigUint64Array {
  const bytes = new BigUint64Array([index, 0n]);
  new Uint32Array(bytes.buffer)[2] = 1;
  return bytes;
}

/** struct ioctl_gntdev_unmap_notify: u64 index, u32 action, u32 event_channel_port. */
export function encodeSetUnmapNotify(index: bigint, localPort: number): BigUint64Array {
  const bytes = new BigUint64Array([index, 0n]);
  new Uint32Array(bytes.buffer).set([UNMAP_NOTIFY_SEND_EVENT, localPort], 2);
  return bytes;
}
