/**
 * The transport over `/dev/xen/xenbus`, the kernel's xenstore device for user space, with Node's file functions alone.
 * Knows the quirks of that device (linux:drivers/xen/xenbus/xenbus_dev_frontend.c), not what the answers mean.
 *
 * Node cannot wait for a character device in its event loop (net.Socket refuses the descriptor), so one read blocks in
 * a thread of libuv's pool of four for as long as the client is open. Whoever has a poll of its own passes `openDevice`.
 */
import { close, open, read, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { encodeMessage, Op } from '../wire.js';
import type { Transport, TransportHandlers } from './transport.js';

const READ_BYTES = 64 * 1024;
/** How long `close` waits for the blocked read to come back before it leaves the thread to its fate, ms. */
const WAKE_TIMEOUT_MS = 1000;

/**
 * A request that the kernel answers by itself, even when xenstored is dead: UNWATCH of a watch that does not exist
 * (xenbus_write_watch). It brings a blocked read back.
 */
const WAKE_UP = encodeMessage(Op.Unwatch, 0, 0, Buffer.from('@releaseDomain\0wake-up\0'));

/** Opens a character device that speaks the xenstore protocol. Rejects with the errno error of open(2). */
export async function openDeviceTransport(path: string): Promise<Transport> {
  return new DeviceTransport(await promisify(open)(path, 'r+'));
}

class DeviceTransport implements Transport {
  readonly kind = 'device';
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafe(READ_BYTES);
  #handlers: TransportHandlers | undefined;
  #reading = false;
  #writing = false;
  #closed: Promise<void> | undefined;
  #onQuiet: (() => void) | undefined;
  /** process.exit() waits for the threads of the pool: without this it would hang in the blocked read. */
  readonly #onExit = (): void => this.#wake();

  constructor(fd: number) {
    this.#fd = fd;
  }

  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
    process.once('exit', this.#onExit);
    this.#readOn();
  }

  write(bytes: Buffer): boolean {
    this.#writing = true;
    this.#writeFrom(bytes, 0);
    return false;
  }

  close(): Promise<void> {
    this.#closed ??= this.#shutDown();
    return this.#closed;
  }

  async #shutDown(): Promise<void> {
    process.removeListener('exit', this.#onExit);
    if (this.#reading) await this.#endReading();
    if (!this.#reading) await promisify(close)(this.#fd).catch(() => {});
    // A descriptor that is being read must not be closed: its number could be reused under the reader.
    else this.#onQuiet = () => close(this.#fd, () => {});
  }

  #endReading(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, WAKE_TIMEOUT_MS);
      this.#onQuiet = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#wake();
    });
  }

  #wake(): void {
    // While a message is half written this would land in its middle; its own answer ends the read then.
    if (!this.#reading || this.#writing) return;
    try {
      writeSync(this.#fd, WAKE_UP);
    } catch {
      // The device is gone, and then so is the read.
    }
  }

  #readOn(): void {
    this.#reading = true;
    read(this.#fd, this.#buffer, 0, READ_BYTES, null, (error, bytes) => {
      this.#reading = false;
      if (this.#closed !== undefined) {
        this.#onQuiet?.();
        return;
      }
      if (error !== null || bytes === 0) {
        this.#fail(error ?? undefined);
        return;
      }
      // A copy: the payloads handed on are views of it, and the buffer is used again at once.
      this.#handlers?.onData(Buffer.from(this.#buffer.subarray(0, bytes)));
      if (this.#closed === undefined) this.#readOn();
    });
  }

  #writeFrom(bytes: Buffer, from: number): void {
    write(this.#fd, bytes, from, bytes.length - from, null, (error, written) => {
      if (error === null && from + written < bytes.length) {
        this.#writeFrom(bytes, from + written);
        return;
      }
      this.#writing = false;
      if (this.#closed !== undefined) {
        this.#wake();
        return;
      }
      // The kernel reports a refused WATCH, and before Linux 4.11 every refused request, as a failed write().
      if (error !== null) this.#refused(error);
      if (this.#closed === undefined) this.#handlers?.onWritable();
    });
  }

  #refused(error: NodeJS.ErrnoException): void {
    // ENXIO and the like are no answers of a store: the device itself is gone.
    if (error.code === undefined || ['EBADF', 'ENXIO', 'ENODEV'].includes(error.code)) this.#fail(error);
    else this.#handlers?.onRefused(error.code);
  }

  #fail(cause: Error | undefined): void {
    const handlers = this.#handlers;
    this.#handlers = undefined;
    void this.close();
    handlers?.onClosed(cause);
  }
}
