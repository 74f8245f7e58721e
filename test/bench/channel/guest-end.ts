/**
 * The guest's end of a benched channel: a Unix socket in place of a program on /dev/hvcX, with a tty's flow control (it
 * reads no further while the ring is full) and bytes copied as hvc_xen copies them. Knows nothing of the backend.
 */
import { writeSync } from 'node:fs';
import { createServer, type OnReadOpts, type Server, Socket } from 'node:net';
import type { GuestPage } from '../../../src/hypervisor/guest-page.js';
import type { SimulatedHypervisor } from '../../../src/hypervisor/simulated.js';
import { GuestRing, ILLEGAL } from '../../../src/simulation/guest-ring.js';
import { alignedBytes } from '../../../src/sys/memory.js';

const BATCH_BYTES = 65536;
const BACKEND_DOMID = 0;
/**
 * Left to itself the event loop reads 2 MiB of one end before it looks at others, and what else waits is no figure of the
 * backend then.
 */
export const READS_UNTIL_BREAK = 4;

/** What all ends share: one buffer to read into, and one batch toward a program, flushed before another end needs it. */
export class GuestBuffers {
  readonly read = alignedBytes(BATCH_BYTES);
  readonly batch = alignedBytes(BATCH_BYTES);
  owner: GuestEnd | undefined;
}

export interface GuestEndOptions {
  readonly hypervisor: SimulatedHypervisor;
  readonly domid: number;
  readonly page: GuestPage;
  readonly buffers: GuestBuffers;
  /** Reads in a row before others have their turn. */
  readonly maxReads: number;
}

export class GuestEnd {
  readonly ringRef: number;
  readonly port: number;
  readonly #options: GuestEndOptions;
  readonly #ring: GuestRing;
  readonly #server: Server;
  #socket: Socket | undefined;
  #fd = -1;
  /** What was read and has no room in the ring; the socket is not read meanwhile. */
  #pending: Uint8Array | undefined;
  #pendingFrom = 0;
  #batched = 0;
  #flushing = false;
  #blocked = false;
  #reads = 0;

  constructor(options: GuestEndOptions) {
    const { hypervisor, domid, page } = options;
    this.#options = options;
    this.#ring = new GuestRing(page);
    this.ringRef = hypervisor.grant(domid, BACKEND_DOMID, page);
    this.port = hypervisor.allocUnbound(domid, BACKEND_DOMID);
    hypervisor.onEvent(domid, this.port, () => this.#interrupt());
    this.#server = createServer({ pauseOnConnect: true }, (accepted) => this.#open(accepted));
  }

  listen(path: string): Promise<void> {
    return new Promise((settle, fail) => {
      this.#server.once('error', fail).listen(path, settle);
    });
  }

  /** Reads of all ends go into one buffer: Node has that for sockets it connects, and in truth for every handle. */
  #open(accepted: Socket): void {
    const handle = (accepted as unknown as { _handle: { fd: number } })._handle;
    const { read } = this.#options.buffers;
    const onread: OnReadOpts = {
      buffer: read,
      callback: (count) =>
        this.#fromProgram(count === read.length ? read : read.subarray(0, count)) && !this.#takesBreak(socket),
    };
    const socket = new Socket({ handle, onread } as object);
    this.#socket = socket;
    this.#fd = handle.fd;
    this.#blocked = false;
    socket.on('error', () => {});
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = undefined;
    });
    socket.resume();
  }

  #takesBreak(socket: Socket): boolean {
    if (++this.#reads < this.#options.maxReads) return false;
    this.#reads = 0;
    setImmediate(() => {
      if (this.#pending === undefined) socket.resume();
    });
    return true;
  }

  /** False stops reading: what is left is kept until the ring has room. */
  #fromProgram(bytes: Uint8Array): boolean {
    this.#pending = bytes;
    this.#pendingFrom = 0;
    this.#write();
    if (this.#pending === undefined) return true;
    this.#pending = Buffer.from(this.#pending.subarray(this.#pendingFrom));
    this.#pendingFrom = 0;
    return false;
  }

  /** As hvc's put_chars: into the ring, then a notification, as long as there is room. */
  #write(): void {
    while (this.#pending !== undefined) {
      const count = this.#ring.writeOut(this.#pending, this.#pendingFrom);
      if (count === 0 || count === ILLEGAL) return;
      this.#pendingFrom += count;
      if (this.#pendingFrom === this.#pending.length) this.#pending = undefined;
      this.#notify();
    }
  }

  #interrupt(): void {
    this.#read();
    if (this.#pending === undefined) return;
    this.#write();
    if (this.#pending === undefined) this.#socket?.resume();
  }

  /** Takes what the host has written into the batch, which goes to the program when this turn of the loop is over. */
  #read(): void {
    if (this.#blocked) return;
    const { buffers } = this.#options;
    if (buffers.owner !== this) buffers.owner?.flush();
    buffers.owner = this;
    const room = buffers.batch.length - this.#batched;
    const count = this.#ring.peekIn(buffers.batch, this.#batched);
    if (count === 0 || count === ILLEGAL) return;
    this.#ring.consumeIn(count);
    this.#batched += count;
    if (count === room) this.flush();
    else if (!this.#flushing) {
      this.#flushing = true;
      queueMicrotask(() => {
        this.#flushing = false;
        this.flush();
      });
    }
    this.#notify();
  }

  flush(): void {
    const count = this.#batched;
    this.#batched = 0;
    if (count === 0) return;
    const { batch } = this.#options.buffers;
    let written = 0;
    try {
      while (written < count) written += writeSync(this.#fd, batch, written, count - written);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) return;
      this.#blocked = true;
      this.#socket?.write(Buffer.from(batch.subarray(written, count)), () => {
        this.#blocked = false;
        this.#read();
      });
    }
  }

  #notify(): void {
    const { hypervisor, domid } = this.#options;
    hypervisor.notify(domid, this.port);
  }
}
