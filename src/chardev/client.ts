/**
 * One accepted connection: writes that say exactly how much the kernel took, and an input that survives the client.
 * Knows nothing of roles or of other clients.
 */
import { readSync } from 'node:fs';
import { type Server, Socket } from 'node:net';
import { alignedBytes } from '../sys/memory.js';
import { shutdownRead } from '../sys/shutdown.js';
import { writeNow } from '../sys/write.js';

/**
 * What waits for room in the client's socket. Linux takes or refuses a piece of this size as a whole
 * (linux:net/unix/af_unix.c, unix_stream_sendmsg), so we always know what the client can still read.
 */
export const WAITING_BYTES = 4096;
/** What a departed client may leave behind unread; a Linux socket holds 208 KiB unless root has raised the limit. */
export const MAX_SALVAGE_BYTES = 1024 * 1024;
const READ_BYTES = 65536;
const NOTHING = Buffer.alloc(0);

export interface ClientEvents {
  /** Valid only during the call. */
  onInput(bytes: Uint8Array): void;
  /** The client will send no more, but may still read. */
  onEnd(): void;
  /** There is room again after a `write` that took less than all. */
  onWritable(): void;
  /** The connection is over. `unread`: what it had sent and we had not read; `unwritten`: what it never got. */
  onGone(unread: Uint8Array[], unwritten: Uint8Array): void;
}

export class Client {
  readonly #socket: Socket;
  readonly #events: ClientEvents;
  readonly #fd: number;
  #waiting: Buffer = NOTHING;
  #ended = false;
  /** `ending`: known to be gone, but nobody was told yet, because that must not happen inside a call of the owner. */
  #state: 'open' | 'ending' | 'gone' = 'open';
  #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #lostBytes = 0;

  constructor(accepted: Socket, events: ClientEvents) {
    const socket = readingInto(accepted, (bytes) => this.#read(bytes));
    this.#socket = socket;
    this.#events = events;
    this.#fd = descriptorOf(socket);
    socket.on('end', () => {
      this.#ended = true;
      events.onEnd();
      this.probe();
    });
    // Also when the client closed with unread bytes of ours (ECONNRESET): what Node had read ahead is still there.
    socket.on('error', () => this.#finish());
    socket.on('close', () => this.#finish());
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** True when nothing more can be written now. */
  get blocked(): boolean {
    return this.#state !== 'open' || this.#waiting.length > 0;
  }

  /** Taken, but not with the kernel yet. */
  get unconfirmedBytes(): number {
    return this.#waiting.length;
  }

  /** Input of this client that had to be given up because of MAX_SALVAGE_BYTES. */
  get lostBytes(): number {
    return this.#lostBytes;
  }

  /**
   * Gives bytes to the kernel; what does not fit is refused, except one small piece that waits for room and so tells us
   * when there is some. A plain write(2), because Node's own write would end the whole connection, its unread input
   * included, when the client has gone.
   */
  write(bytes: Uint8Array): number {
    if (this.blocked) return 0;
    const taken = this.#tryWrite(bytes);
    if (taken === undefined) return 0;
    return taken === bytes.length ? taken : taken + this.#wait(bytes.subarray(taken, taken + WAITING_BYTES));
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Finds out whether the client has gone altogether, which an end of its input does not tell. */
  probe(): void {
    if (!this.blocked) this.#tryWrite(NOTHING);
  }

  /** Ends the connection. With `drain` the client can send no more and everything it sent comes back in `onGone`. */
  close({ drain }: { readonly drain: boolean }): void {
    if (this.#state === 'gone') return;
    if (drain) {
      shutdownRead(this.#fd);
      this.#salvage();
    }
    this.#finish();
  }

  /** As `close`, without a word to anybody. */
  abandon(): void {
    this.#state = 'gone';
    this.#socket.destroy();
  }

  #read(bytes: Uint8Array): void {
    if (this.#state === 'open') this.#events.onInput(bytes);
    else if (this.#state === 'ending') this.#keep(Buffer.from(bytes));
  }

  /** Bytes written; fewer than all when there is no more room; undefined when the client has gone, which is dealt with. */
  #tryWrite(bytes: Uint8Array): number | undefined {
    const written = writeNow(this.#fd, bytes);
    if (written === 'busy') return 0;
    if (written !== 'refused') return written;
    this.#salvage();
    this.#state = 'ending';
    queueMicrotask(() => this.#finish());
    return undefined;
  }

  #wait(bytes: Uint8Array): number {
    const piece = Buffer.from(bytes);
    this.#waiting = piece;
    this.#socket.write(piece, (error) => {
      if (error) {
        // The descriptor is still open here; right after this call it is not.
        this.#salvage();
        this.#finish();
        return;
      }
      this.#waiting = NOTHING;
      if (this.#state === 'open') this.#events.onWritable();
    });
    return piece.length;
  }

  /** Takes what the client had sent before it went: first what Node has read ahead, then what the kernel holds. */
  #salvage(): void {
    if (this.#socket.destroyed || this.#state !== 'open') return;
    this.#readAhead();
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    try {
      for (;;) {
        const count = readSync(this.#fd, buffer, 0, READ_BYTES, null);
        if (count === 0) return;
        this.#keep(Buffer.from(buffer.subarray(0, count)));
      }
    } catch {
      // EAGAIN: that was all. ECONNRESET comes after the last byte.
    }
  }

  #readAhead(): void {
    this.#socket.removeAllListeners('data');
    this.#socket.pause();
    for (let chunk = this.#socket.read() as Buffer | null; chunk !== null; chunk = this.#socket.read())
      this.#keep(chunk);
  }

  #keep(chunk: Buffer): void {
    if (this.#unreadBytes + chunk.length > MAX_SALVAGE_BYTES) {
      this.#lostBytes += chunk.length;
      return;
    }
    this.#unread.push(chunk);
    this.#unreadBytes += chunk.length;
  }

  #finish(): void {
    if (this.#state === 'gone') return;
    this.#readAhead();
    this.#state = 'gone';
    this.#socket.destroy();
    this.#events.onGone(this.#unread, this.#waiting);
  }
}

/**
 * What all connections read into: whoever keeps bytes copies them. A buffer for each read would cost more than the read,
 * and parts of a Buffer cost more than parts of a plain array.
 */
const readBuffer = alignedBytes(READ_BYTES);

/**
 * The same connection, read into one buffer for all. Node offers that (`onread`) for sockets it connects, not for those
 * it accepts: so the handle gets another socket around it. Paused.
 */
function readingInto(accepted: Socket, onBytes: (bytes: Uint8Array) => void): Socket {
  const holder = accepted as unknown as { _handle?: object | null };
  const handle = holder._handle;
  if (handle === undefined || handle === null) {
    accepted.on('data', onBytes);
    return accepted;
  }
  holder._handle = null;
  accepted.destroy();
  const onread = {
    buffer: readBuffer,
    callback: (count: number) => {
      // The whole buffer is always the same object, of which the ring knows the parts.
      onBytes(count === READ_BYTES ? readBuffer : readBuffer.subarray(0, count));
      return true;
    },
  };
  return new Socket({ handle, allowHalfOpen: true, pauseOnCreate: true, onread } as object);
}

/** Node has no public name for it, but every libuv stream handle on Unix has carried `fd` since its first version. */
export function descriptorOf(socket: Socket | Server): number {
  const handle = (socket as unknown as { _handle?: { fd?: number } })._handle;
  return handle?.fd ?? -1;
}
