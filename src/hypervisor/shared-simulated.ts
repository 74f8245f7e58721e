/**
 * The simulated hypervisor for a backend in a process of its own: granted pages are files that both sides map, an event
 * channel is a pair of named pipes. So a daemon can be killed as the kernel kills, while its guests live on. Unlike the
 * one in memory it does not count mappings: a dead domain's pages live as long as somebody maps them, unseen.
 */
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { ChannelError } from '../base/errors.js';
import { loadDeviceCalls } from '../sys/device.js';
import { makeFifo, tryLock } from '../sys/fifo.js';
import { type DescriptorPoll, pollDescriptor } from '../sys/poll.js';
import { type GuestPage, PAGE_BYTES } from './guest-page.js';
import type { BoundPort, GrantedPage, Hypervisor } from './ports.js';
import { SimulatedHypervisor } from './simulated.js';

const FLAGS = constants.O_RDWR | constants.O_NONBLOCK;
const DIRECTORY_MODE = 0o700;
const drain = Buffer.allocUnsafe(4096);
const RING = Buffer.of(1);

/** Where the two sides meet. */
const places = (directory: string, domid: number) => ({
  domain: join(directory, String(domid)),
  page: (reference: number) => join(directory, String(domid), `page-${reference}`),
  toBackend: (port: number) => join(directory, String(domid), `port-${port}-to-backend`),
  toGuest: (port: number) => join(directory, String(domid), `port-${port}-to-guest`),
});

interface GuestSide {
  readonly toBackend: number;
  readonly toGuest: number;
  readonly poll: DescriptorPoll;
  handler: () => void;
}

/** The guests' side. Backends of other processes use `openSharedBackend` with the same directory. */
export class SharedHypervisor extends SimulatedHypervisor {
  readonly #directory: string;
  readonly #calls = loadDeviceCalls();
  readonly #ports = new Map<string, GuestSide>();

  /** `directory` is made if it is absent. */
  constructor(directory: string) {
    super();
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
  }

  override createDomain(domid: number): void {
    super.createDomain(domid);
    mkdirSync(places(this.#directory, domid).domain, { mode: DIRECTORY_MODE });
  }

  override destroyDomain(domid: number): void {
    super.destroyDomain(domid);
    for (const key of [...this.#ports.keys()]) if (key.startsWith(`${domid}/`)) this.#closePipes(key);
    rmSync(places(this.#directory, domid).domain, { recursive: true, force: true });
  }

  override grant(domid: number, toDomid: number, page: GuestPage): number {
    const reference = super.grant(domid, toDomid, page);
    const path = places(this.#directory, domid).page(reference);
    writeFileSync(path, '', { mode: 0o600 });
    truncateSync(path, PAGE_BYTES);
    page.moveTo(mapPage(this.#calls, path));
    return reference;
  }

  override revoke(domid: number, reference: number): boolean {
    rmSync(places(this.#directory, domid).page(reference), { force: true });
    return super.revoke(domid, reference);
  }

  override allocUnbound(domid: number, remoteDomid: number): number {
    const port = super.allocUnbound(domid, remoteDomid);
    const { toBackend, toGuest } = places(this.#directory, domid);
    for (const path of [toBackend(port), toGuest(port)]) makeFifo(path);
    const [out, back] = [openSync(toBackend(port), FLAGS), openSync(toGuest(port), FLAGS)];
    const poll = pollDescriptor(back, { readable: true }, () => {
      empty(back);
      side.handler();
    });
    const side: GuestSide = { toBackend: out, toGuest: back, poll, handler: () => {} };
    this.#ports.set(`${domid}/${port}`, side);
    return port;
  }

  override onEvent(domid: number, port: number, handler: () => void): void {
    const side = this.#ports.get(`${domid}/${port}`);
    if (side !== undefined) side.handler = handler;
  }

  override notify(domid: number, port: number): void {
    const side = this.#ports.get(`${domid}/${port}`);
    if (side !== undefined) ring(side.toBackend);
  }

  override closePort(domid: number, port: number): void {
    super.closePort(domid, port);
    this.#closePipes(`${domid}/${port}`);
    const { toBackend, toGuest } = places(this.#directory, domid);
    for (const path of [toBackend(port), toGuest(port)]) rmSync(path, { force: true });
  }

  #closePipes(key: string): void {
    const side = this.#ports.get(key);
    if (side === undefined) return;
    this.#ports.delete(key);
    side.poll.close();
    closeSync(side.toBackend);
    closeSync(side.toGuest);
  }
}

/** The rights of one backend process of domain 0. They end with the process. */
export function openSharedBackend(directory: string): Hypervisor {
  const calls = loadDeviceCalls();
  const open = new Set<{ close(): void }>();
  return {
    grants: {
      map(domid, grantReference): GrantedPage {
        try {
          const { buffer, unmap } = mapFile(calls, places(directory, domid).page(grantReference));
          let mapped = true;
          const release = (): void => {
            if (mapped) unmap();
            mapped = false;
            open.delete(page);
          };
          const page = { bytes: new Uint8Array(buffer), words: new Int32Array(buffer), release, close: release };
          open.add(page);
          return page;
        } catch (cause) {
          throw new ChannelError(
            'grant-unmappable',
            `page ${grantReference} of domain ${domid} cannot be mapped: EINVAL`,
            { domid, grantReference, errno: 'EINVAL' },
            { cause },
          );
        }
      },
    },
    events: {
      bind(domid, remotePort, onEvent): BoundPort {
        const port = SharedPort.bind(directory, domid, remotePort, onEvent);
        open.add(port);
        return port;
      },
    },
    close: () => {
      for (const thing of [...open]) thing.close();
    },
  };
}

class SharedPort implements BoundPort {
  readonly #toBackend: number;
  readonly #toGuest: number;
  readonly #poll: DescriptorPoll;
  #open = true;

  /** Throws `port-unbindable`; a lock on the pipe is what keeps a second backend away. */
  static bind(directory: string, domid: number, remotePort: number, onEvent: () => void): SharedPort {
    const place = places(directory, domid);
    const [inward, outward] = [place.toBackend(remotePort), place.toGuest(remotePort)];
    const alive = existsSync(place.domain);
    if (!existsSync(inward) || !existsSync(outward)) throw unbindable(domid, remotePort, alive ? 'EINVAL' : 'ESRCH');
    const fd = openSync(inward, FLAGS);
    if (!tryLock(fd)) {
      closeSync(fd);
      throw unbindable(domid, remotePort, 'EINVAL');
    }
    const port = new SharedPort(fd, openSync(outward, FLAGS), onEvent);
    // Binding always raises one event (xen:xen/common/event_channel.c).
    ring(fd);
    return port;
  }

  private constructor(toBackend: number, toGuest: number, onEvent: () => void) {
    this.#toBackend = toBackend;
    this.#toGuest = toGuest;
    this.#poll = pollDescriptor(toBackend, { readable: true }, () => {
      // Masked until `unmask`; what is rung meanwhile waits in the pipe.
      this.#poll.want({});
      empty(toBackend);
      onEvent();
    });
  }

  notify(): void {
    if (this.#open) ring(this.#toGuest);
  }

  unmask(): void {
    if (this.#open) this.#poll.want({ readable: true });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#poll.close();
    closeSync(this.#toBackend);
    closeSync(this.#toGuest);
  }
}

type Calls = ReturnType<typeof loadDeviceCalls>;

function mapFile(calls: Calls, path: string) {
  const fd = openSync(path, constants.O_RDWR);
  try {
    const mapping = calls.map(fd, PAGE_BYTES, 0n);
    if (typeof mapping === 'number') throw new ChannelError('system-call-failed', `mmap of ${path} failed`, { path });
    return mapping;
  } finally {
    closeSync(fd);
  }
}

function mapPage(calls: Calls, path: string): ArrayBuffer {
  return mapFile(calls, path).buffer;
}

/** A full pipe is an event that is pending already. */
function ring(fd: number): void {
  try {
    writeSync(fd, RING);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
  }
}

function empty(fd: number): void {
  try {
    while (readSync(fd, drain, 0, drain.length, null) === drain.length);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
  }
}

function unbindable(domid: number, remotePort: number, errno: string): ChannelError {
  return new ChannelError(
    'port-unbindable',
    `event channel ${remotePort} of domain ${domid} cannot be bound: ${errno}`,
    {
      domid,
      remotePort,
      errno,
    },
  );
}
