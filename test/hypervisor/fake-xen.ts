/**
 * The kernel's side of /dev/xen/gntdev and /dev/xen/evtchn as openXenHypervisor sees it: remembers each call, and answers
 * like linux:drivers/xen/gntdev.c and evtchn.c do.
 */
import { constants } from 'node:os';
import type { DeviceCalls, DeviceFiles, Mapping } from '../../src/sys/device.js';
import type { PollEvents } from '../../src/sys/poll.js';

const { errno } = constants;
const BASE_PORT = 40;

type Evtchn = {
  restrictedTo: number | undefined;
  /** Local port to what it is bound to, and whether the kernel holds its events back. */
  readonly ports: Map<number, { remote: string; masked: boolean; waiting: boolean }>;
  pending: number[];
  overflowed: boolean;
  onEvents: ((events: PollEvents) => void) | undefined;
};

export class FakeXen implements DeviceCalls, DeviceFiles {
  readonly log: string[] = [];
  /** Grant references that may be mapped, as `domid/ref`, with their pages. */
  readonly grants = new Map<string, ArrayBuffer>();
  /** Ports that wait to be bound, as `domid/port`. */
  readonly offered = new Set<string>();
  readonly missing = new Map<string, number>();
  readonly openFiles = new Map<number, 'gntdev' | 'evtchn'>();
  readonly mapped = new Map<bigint, ArrayBuffer>();
  readonly slots = new Set<bigint>();
  readonly notified: string[] = [];
  canRestrict = true;
  /** How many mmaps answer EAGAIN before one works. */
  pagedOut = 0;
  pausedMs = 0;
  readonly #evtchns = new Map<number, Evtchn>();
  readonly #requests = new Map<bigint, string>();
  #nextFd = 10;
  #nextIndex = 0n;
  #nextPort = BASE_PORT;

  open(path: string): number {
    const refusal = this.missing.get(path);
    if (refusal !== undefined) return -refusal;
    const kind = path === '/dev/xen/gntdev' ? 'gntdev' : 'evtchn';
    const fd = this.#nextFd++;
    this.openFiles.set(fd, kind);
    if (kind === 'evtchn') {
      this.#evtchns.set(fd, {
        restrictedTo: undefined,
        ports: new Map(),
        pending: [],
        overflowed: false,
        onEvents: undefined,
      });
    }
    return fd;
  }

  close(fd: number): void {
    if (!this.openFiles.delete(fd)) throw new Error(`descriptor ${fd} closed twice`);
    for (const port of this.#evtchns.get(fd)?.ports.values() ?? []) this.offered.add(port.remote);
    this.#evtchns.delete(fd);
  }

  ioctl(fd: number, request: number, argument: ArrayBufferView | null): number {
    this.#checkOpen(fd);
    const words =
      argument === null || argument.byteLength % 4 !== 0
        ? new Uint32Array(0)
        : new Uint32Array(argument.buffer, argument.byteOffset, argument.byteLength / 4);
    switch (request) {
      case 0x00184700:
        return this.#mapGrantRef(words);
      case 0x00104701:
        return this.#unmapGrantRef(words);
      case 0x00104707:
        this.log.push(`unmap-notify ${words[2]} ${words[3]}`);
        return this.slots.has(indexOf(words)) ? 0 : -errno.EINVAL;
      case 0x00084501:
        return this.#bind(this.#evtchn(fd), words[0] ?? 0, words[1] ?? 0);
      case 0x00044503:
        return this.#unbind(this.#evtchn(fd), words[0] ?? 0);
      case 0x00044504:
        return this.#notify(this.#evtchn(fd), words[0] ?? 0);
      case 0x00004505:
        this.#evtchn(fd).overflowed = false;
        this.#evtchn(fd).pending = [];
        this.log.push('reset');
        return 0;
      case 0x00024506:
        if (!this.canRestrict) return -errno.ENOTTY;
        this.#evtchn(fd).restrictedTo = (argument as Uint16Array)[0];
        return 0;
      default:
        throw new Error(`unknown ioctl 0x${request.toString(16)}`);
    }
  }

  read(fd: number, target: ArrayBufferView): number {
    this.#checkOpen(fd);
    const evtchn = this.#evtchn(fd);
    if (evtchn.overflowed) return -errno.EFBIG;
    if (evtchn.pending.length === 0) return -errno.EAGAIN;
    const ports = evtchn.pending.splice(0, target.byteLength / 4);
    new Uint32Array(target.buffer, target.byteOffset).set(ports);
    return ports.length * 4;
  }

  write(fd: number, source: ArrayBufferView): number {
    this.#checkOpen(fd);
    for (const local of new Uint32Array(source.buffer, source.byteOffset, source.byteLength / 4)) {
      const port = this.#evtchn(fd).ports.get(local);
      this.log.push(`unmask ${local}`);
      if (port === undefined) continue;
      port.masked = false;
      if (port.waiting) this.#raise(this.#evtchn(fd), local);
    }
    return source.byteLength;
  }

  map(fd: number, lengthBytes: number, offset: bigint): Mapping | number {
    this.#checkOpen(fd);
    if (this.pagedOut > 0) {
      this.pagedOut--;
      return -errno.EAGAIN;
    }
    const page = this.grants.get(this.#requests.get(offset) ?? '');
    if (page === undefined || lengthBytes !== 4096) return -errno.EINVAL;
    this.mapped.set(offset, page);
    return {
      buffer: page,
      unmap: () => {
        this.log.push('unmap');
        this.mapped.delete(offset);
      },
    };
  }

  poll(fd: number, onEvents: (events: PollEvents) => void) {
    const evtchn = this.#evtchn(fd);
    evtchn.onEvents = onEvents;
    return {
      want: () => this.log.push('poll-again'),
      close: () => {
        evtchn.onEvents = undefined;
      },
    };
  }

  pause(milliseconds: number): void {
    this.pausedMs += milliseconds;
  }

  /** The guest rings its end. */
  ring(remote: string): void {
    for (const evtchn of this.#evtchns.values()) {
      for (const [local, port] of evtchn.ports) if (port.remote === remote) this.#raise(evtchn, local);
    }
  }

  /** What the event loop does: calls back for each readable descriptor, once. */
  turn(): void {
    for (const { overflowed, pending, onEvents } of [...this.#evtchns.values()]) {
      if (overflowed) onEvents?.({ readable: false, writable: false, disconnect: true });
      else if (pending.length > 0) onEvents?.({ readable: true, writable: false, disconnect: false });
    }
  }

  overflow(): void {
    for (const evtchn of this.#evtchns.values()) evtchn.overflowed = true;
  }

  restrictions(): (number | undefined)[] {
    return [...this.#evtchns.values()].map((evtchn) => evtchn.restrictedTo);
  }

  #mapGrantRef(words: Uint32Array): number {
    if (words.length !== 6 || words[0] !== 1) return -errno.EINVAL;
    const index = this.#nextIndex;
    this.#nextIndex += 4096n;
    words[2] = Number(index);
    words[3] = 0;
    this.#requests.set(index, `${words[4]}/${words[5]}`);
    this.slots.add(index);
    return 0;
  }

  #unmapGrantRef(words: Uint32Array): number {
    this.log.push('unmap-grant-ref');
    return words[2] === 1 && this.slots.delete(indexOf(words)) ? 0 : -errno.ENOENT;
  }

  #bind(evtchn: Evtchn, domid: number, remotePort: number): number {
    const remote = `${domid}/${remotePort}`;
    if (evtchn.restrictedTo !== undefined && evtchn.restrictedTo !== domid) return -errno.EACCES;
    if (domid === 99) return -errno.ESRCH;
    if (!this.offered.delete(remote)) return -errno.EINVAL;
    const local = this.#nextPort++;
    evtchn.ports.set(local, { remote, masked: false, waiting: false });
    this.#raise(evtchn, local);
    return local;
  }

  #unbind(evtchn: Evtchn, local: number): number {
    const port = evtchn.ports.get(local);
    if (port === undefined) return -errno.ENOTCONN;
    evtchn.ports.delete(local);
    evtchn.pending = evtchn.pending.filter((pending) => pending !== local);
    this.offered.add(port.remote);
    return 0;
  }

  #notify(evtchn: Evtchn, local: number): number {
    const port = evtchn.ports.get(local);
    if (port === undefined) return -errno.ENOTCONN;
    this.notified.push(port.remote);
    return 0;
  }

  #raise(evtchn: Evtchn, local: number): void {
    const port = evtchn.ports.get(local);
    if (port === undefined) return;
    port.waiting = port.masked;
    if (port.masked) return;
    port.masked = true;
    evtchn.pending.push(local);
  }

  #evtchn(fd: number): Evtchn {
    const evtchn = this.#evtchns.get(fd);
    if (evtchn === undefined) throw new Error(`descriptor ${fd} is no open event channel device`);
    return evtchn;
  }

  #checkOpen(fd: number): void {
    if (!this.openFiles.has(fd)) throw new Error(`descriptor ${fd} is not open`);
  }
}

const indexOf = (words: Uint32Array): bigint => BigInt(words[0] ?? 0) + (BigInt(words[1] ?? 0) << 32n);
