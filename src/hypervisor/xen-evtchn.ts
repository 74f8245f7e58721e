/**
 * Binds and rings event channels through /dev/xen/evtchn, on one descriptor for each domain that the kernel restricts
 * to this domain. Knows nothing of what an event means.
 */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { ChannelError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { DeviceCalls } from '../sys/device.js';
import type { DescriptorPoll, PollEvents } from '../sys/poll.js';
import type { BoundPort, EventChannels } from './ports.js';
import { EVTCHN, EVTCHN_PATH, isDomid, isU32 } from './xen-abi.js';

/** The kernel hands out at most one page of pending ports in a read (linux:drivers/xen/evtchn.c, evtchn_read). */
const PORTS_PER_READ = 1024;
/** Overflows in a row, without a single read in between, after which the descriptor is taken for broken. */
const MAX_RESETS_IN_A_ROW = 16;

/** What is known of one port while it is bound. */
class XenBoundPort implements BoundPort {
  readonly localPort: number;
  readonly onEvent: () => void;
  /** The argument of NOTIFY, UNBIND and of the unmasking write, made once. */
  readonly argument: Uint32Array;
  /** Delivered, and masked by the kernel until it is written back. */
  masked = false;
  #device: DomainEvents | undefined;

  constructor(device: DomainEvents, localPort: number, onEvent: () => void) {
    this.#device = device;
    this.localPort = localPort;
    this.onEvent = onEvent;
    this.argument = new Uint32Array([localPort]);
  }

  notify(): void {
    this.#device?.notify(this);
  }

  unmask(): void {
    if (!this.masked) return;
    this.masked = false;
    this.#device?.unmask(this);
  }

  close(): void {
    const device = this.#device;
    this.#device = undefined;
    device?.unbind(this);
  }

  /** The device is gone: no call may reach it any more. */
  orphan(): void {
    this.#device = undefined;
  }
}

/** The ports of one domain, on a descriptor of their own. */
class DomainEvents {
  readonly #calls: DeviceCalls;
  readonly #fd: number;
  readonly #log: Logger;
  readonly #onEmpty: () => void;
  readonly #ports = new Map<number, XenBoundPort>();
  readonly #pending = new Uint32Array(PORTS_PER_READ);
  #poll: DescriptorPoll | undefined;
  #resetsInARow = 0;
  #notifyFailed = false;

  constructor(calls: DeviceCalls, fd: number, log: Logger, onEmpty: () => void) {
    this.#calls = calls;
    this.#fd = fd;
    this.#log = log;
    this.#onEmpty = onEmpty;
    this.#poll = calls.poll(fd, (events) => this.#onPoll(events));
  }

  get isEmpty(): boolean {
    return this.#ports.size === 0;
  }

  /** The local port, bound, or a negative errno. */
  bind(domid: number, remotePort: number, onEvent: () => void): XenBoundPort | number {
    const localPort = this.#calls.ioctl(this.#fd, EVTCHN.bindInterdomain, new Uint32Array([domid, remotePort]));
    if (localPort < 0) return localPort;
    const port = new XenBoundPort(this, localPort, onEvent);
    this.#ports.set(localPort, port);
    return port;
  }

  notify(port: XenBoundPort): void {
    const result = this.#calls.ioctl(this.#fd, EVTCHN.notify, port.argument);
    if (result >= 0 || this.#notifyFailed) return;
    this.#notifyFailed = true;
    this.#log.log('warn', 'event channel cannot be rung', { port: port.localPort, errno: getSystemErrorName(result) });
  }

  unmask(port: XenBoundPort): void {
    this.#calls.write(this.#fd, port.argument);
  }

  unbind(port: XenBoundPort): void {
    this.#ports.delete(port.localPort);
    this.#calls.ioctl(this.#fd, EVTCHN.unbind, port.argument);
    if (this.isEmpty) this.#onEmpty();
  }

  /** Closing the descriptor unbinds whatever is left; its number may soon mean another file. */
  close(): void {
    for (const port of this.#ports.values()) port.orphan();
    this.#ports.clear();
    this.#poll?.close();
    this.#poll = undefined;
    this.#calls.close(this.#fd);
  }

  #onPoll(events: PollEvents): void {
    // The kernel signals an overflow as POLLERR; libuv then stops the poll and reports an error.
    const result = events.disconnect ? -constants.errno.EFBIG : this.#calls.read(this.#fd, this.#pending);
    if (result === -constants.errno.EFBIG) this.#recover();
    if (result <= 0) return;
    this.#resetsInARow = 0;
    const ports: XenBoundPort[] = [];
    for (let i = 0; i < result >>> 2; i++) {
      const port = this.#ports.get(this.#pending[i] ?? -1);
      if (port !== undefined) ports.push(port);
    }
    this.#deliver(ports);
  }

  /** An event once read is not told again: one listener that throws must not cost the others theirs. */
  #deliver(ports: readonly XenBoundPort[]): void {
    for (const port of ports) port.masked = true;
    const errors: unknown[] = [];
    for (const port of ports) {
      if (this.#ports.get(port.localPort) !== port) continue; // closed by a listener before it
      try {
        port.onEvent();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** After an overflow nobody knows which ports were pending, and the lost ones are masked: so all of them are. */
  #recover(): void {
    const result = this.#calls.ioctl(this.#fd, EVTCHN.reset, null);
    this.#resetsInARow++;
    if (result < 0 || this.#resetsInARow > MAX_RESETS_IN_A_ROW) {
      this.#log.log('error', 'event channel device is broken; its channels stand still until the daemon restarts', {
        ports: this.#ports.size,
        errno: result < 0 ? getSystemErrorName(result) : 'EFBIG',
      });
      this.#poll?.close();
      this.#poll = undefined;
      return;
    }
    this.#log.log('warn', 'event channel buffer overflowed; looking at every channel of the domain', {
      ports: this.#ports.size,
    });
    this.#poll?.want({ readable: true });
    this.#deliver([...this.#ports.values()]);
  }
}

export type XenEventOptions = {
  readonly calls: DeviceCalls;
  /** A fresh descriptor of the device; throws ChannelError. */
  readonly open: () => number;
  readonly log: Logger;
};

export class XenEventChannels implements EventChannels {
  readonly #options: XenEventOptions;
  readonly #domains = new Map<number, DomainEvents>();
  #closed = false;
  #restrictable = true;

  constructor(options: XenEventOptions) {
    this.#options = options;
  }

  bind(domid: number, remotePort: number, onEvent: () => void): XenBoundPort {
    if (this.#closed)
      throw new ChannelError('internal-bug', 'a port was to be bound after the event device was closed');
    if (!isDomid(domid) || !isU32(remotePort)) throw unbindable(domid, remotePort, 'EINVAL');
    const domain = this.#domains.get(domid) ?? this.#openDomain(domid);
    const port = domain.bind(domid, remotePort, onEvent);
    if (typeof port !== 'number') return port;
    if (domain.isEmpty) this.#dropDomain(domid);
    throw unbindable(domid, remotePort, getSystemErrorName(port));
  }

  close(): void {
    this.#closed = true;
    for (const domid of [...this.#domains.keys()]) this.#dropDomain(domid);
  }

  #openDomain(domid: number): DomainEvents {
    const { calls, open, log } = this.#options;
    const fd = open();
    this.#restrict(fd, domid);
    const domain = new DomainEvents(calls, fd, log.with({ domid }), () => this.#dropDomain(domid));
    this.#domains.set(domid, domain);
    return domain;
  }

  #dropDomain(domid: number): void {
    const domain = this.#domains.get(domid);
    if (domain === undefined) return;
    this.#domains.delete(domid);
    domain.close();
  }

  /** A second wall: even a bug of ours then cannot ring another domain through this descriptor. */
  #restrict(fd: number, domid: number): void {
    if (!this.#restrictable) return;
    const result = this.#options.calls.ioctl(fd, EVTCHN.restrictDomid, new Uint16Array([domid]));
    if (result >= 0) return;
    if (result !== -constants.errno.ENOTTY) {
      this.#options.calls.close(fd);
      const errno = getSystemErrorName(result);
      throw new ChannelError('system-call-failed', `${EVTCHN_PATH} cannot be restricted to domain ${domid}: ${errno}`, {
        domid,
        errno,
      });
    }
    this.#restrictable = false;
    this.#options.log.log('warn', 'this kernel cannot restrict event channels to a domain (older than Linux 4.8)');
  }
}

function unbindable(domid: number, remotePort: number, errno: string): ChannelError {
  const why =
    errno === 'ESRCH'
      ? 'the domain does not exist'
      : errno === 'EINVAL'
        ? 'the domain does not offer it to us, or somebody else serves it already'
        : 'the kernel refused';
  return new ChannelError(
    'port-unbindable',
    `event channel port ${remotePort} of domain ${domid} cannot be bound (${errno}): ${why}`,
    { domid, remotePort, errno },
  );
}
