/**
 * Maps granted pages through /dev/xen/gntdev. Knows nothing of what is in them.
 */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { ChannelError } from '../base/errors.js';
import type { DeviceCalls, Mapping } from '../sys/device.js';
import type { GrantedPage, GrantMapper } from './ports.js';
import {
  encodeSetUnmapNotify,
  encodeUnmapGrantRef,
  GNTDEV,
  GRANT_PAGE_BYTES,
  isDomid,
  isU32,
  MapGrantRef,
} from './xen-abi.js';

/**
 * A page that is swapped out by xenpaging answers EAGAIN until it is back, and nothing tells when that is
 * (xen:tools/libs/gnttab/linux.c, osdep_gnttab_grant_map, which tries for ever). This stops the process: keep it short.
 */
const PAGED_OUT_TRIES = 20;
const PAGED_OUT_PAUSE_MS = 1;

export class XenGrantMapper implements GrantMapper {
  readonly #calls: DeviceCalls;
  readonly #fd: number;
  readonly #pages = new Set<XenGrantedPage>();
  #closed = false;

  /** Takes over `fd`. */
  constructor(calls: DeviceCalls, fd: number) {
    this.#calls = calls;
    this.#fd = fd;
  }

  map(domid: number, grantReference: number): XenGrantedPage {
    if (this.#closed) throw new ChannelError('internal-bug', 'a page was asked for after the grant device was closed');
    if (!isDomid(domid) || !isU32(grantReference)) throw unmappable(domid, grantReference, 'EINVAL');
    const request = new MapGrantRef(domid, grantReference);
    const result = this.#calls.ioctl(this.#fd, GNTDEV.mapGrantRef, request.bytes);
    if (result < 0) throw unmappable(domid, grantReference, getSystemErrorName(result));
    // The hypercall happens here, not in the ioctl: a bad reference is refused by mmap.
    const mapping = this.#mapPatiently(request.index);
    if (typeof mapping === 'number') {
      this.#calls.ioctl(this.#fd, GNTDEV.unmapGrantRef, encodeUnmapGrantRef(request.index));
      throw unmappable(domid, grantReference, getSystemErrorName(mapping));
    }
    const page = new XenGrantedPage(this.#calls, this.#fd, request.index, mapping, () => this.#pages.delete(page));
    this.#pages.add(page);
    return page;
  }

  /** Gives back every page. */
  close(): void {
    if (this.#closed) return;
    for (const page of [...this.#pages]) page.release();
    this.#closed = true;
    this.#calls.close(this.#fd);
  }

  #mapPatiently(index: bigint): Mapping | number {
    for (let tries = 1; ; tries++) {
      const mapping = this.#calls.map(this.#fd, GRANT_PAGE_BYTES, index);
      if (mapping !== -constants.errno.EAGAIN || tries === PAGED_OUT_TRIES) return mapping;
      this.#calls.pause(PAGED_OUT_PAUSE_MS);
    }
  }
}

export class XenGrantedPage implements GrantedPage {
  readonly #calls: DeviceCalls;
  readonly #fd: number;
  readonly #index: bigint;
  readonly #onRelease: () => void;
  #mapped: { mapping: Mapping; bytes: Uint8Array; words: Int32Array } | undefined;

  constructor(calls: DeviceCalls, fd: number, index: bigint, mapping: Mapping, onRelease: () => void) {
    this.#calls = calls;
    this.#fd = fd;
    this.#index = index;
    this.#onRelease = onRelease;
    this.#mapped = { mapping, bytes: new Uint8Array(mapping.buffer), words: new Int32Array(mapping.buffer) };
  }

  get bytes(): Uint8Array {
    return this.#live().bytes;
  }

  get words(): Int32Array {
    return this.#live().words;
  }

  /** From now on the kernel rings this event channel when the page is unmapped, also when this process is killed. */
  notifyOnUnmap(localPort: number): void {
    this.#live();
    const result = this.#calls.ioctl(this.#fd, GNTDEV.setUnmapNotify, encodeSetUnmapNotify(this.#index, localPort));
    if (result < 0) {
      const errno = getSystemErrorName(result);
      throw new ChannelError('system-call-failed', `SET_UNMAP_NOTIFY with port ${localPort} failed: ${errno}`, {
        localPort,
        errno,
      });
    }
  }

  release(): void {
    if (this.#mapped === undefined) return;
    const { mapping } = this.#mapped;
    this.#mapped = undefined;
    // In this order: UNMAP_GRANT_REF succeeds on a page that is still mapped, and leaves it mapped.
    mapping.unmap();
    this.#calls.ioctl(this.#fd, GNTDEV.unmapGrantRef, encodeUnmapGrantRef(this.#index));
    this.#onRelease();
  }

  #live(): { bytes: Uint8Array; words: Int32Array } {
    if (this.#mapped === undefined) throw new ChannelError('internal-bug', 'a granted page was used after its release');
    return this.#mapped;
  }
}

/** Xen does not tell a bad reference from a revoked one or from a domain that is gone: EINVAL in each case. */
function unmappable(domid: number, grantReference: number, errno: string): ChannelError {
  return new ChannelError(
    'grant-unmappable',
    `grant reference ${grantReference} of domain ${domid} cannot be mapped (${errno}): the domain is gone or does not grant this page to us`,
    { domid, grantReference, errno },
  );
}
