/**
 * Reads and writes of an accepted socket with as little in between as Node.js allows: all sockets read into one buffer,
 * and what the kernel takes at once is written without a stream (a quarter of the CPU time of a small request). Where
 * Node.js has not what this needs, an ordinary stream does the same. Knows nothing of the protocol.
 */
import { writeSync } from 'node:fs';
import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { constants } from 'node:os';

const { EAGAIN } = constants.errno;
const READ_BYTES = 64 * 1024;
/** Valid only within one call; one thread, one call at a time. */
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

/** Small requests are the rule: their views of the buffer are made once. */
const MAX_KEPT_VIEW_BYTES = 512;
const keptViews: Buffer[] = [];

function received(count: number): Buffer {
  if (count > MAX_KEPT_VIEW_BYTES) return readBuffer.subarray(0, count);
  keptViews[count] ??= readBuffer.subarray(0, count);
  return keptViews[count];
}

/** What a socket has below, and tells nobody. */
interface Handle {
  readonly fd: number;
  readStart(): unknown;
}

/** System calls on sockets, from whoever has them; numbers as the kernel's: a result, or a negative errno. */
export interface SocketIo {
  /**
   * Calls `read` again and again while there is something to read, or the other side is gone; `together`: how many sockets
   * had something at the same time.
   */
  watch(
    fd: number,
    read: (together: number) => void,
  ): {
    /** Only while the descriptor is open. */
    pause(): void;
    resume(): void;
    /** The descriptor is closed. */
    forget(): void;
  };
  read(fd: number, target: Buffer): number;
  write(fd: number, source: Buffer, length: number): number;
}

/** With system calls where that pays, with what Node.js has below its streams, or with streams. */
export type Direct = Crowd | boolean;

export interface DirectSocket {
  readonly socket: Socket;
  pause(): void;
  resume(): void;
  readonly isPaused: boolean;
  /** Writes the first `length` bytes as far as that is possible at once; returns how many. The rest is for the stream. */
  readonly tryWrite: (bytes: Buffer, length: number) => number;
}

/**
 * Takes over a socket that was accepted with `pauseOnConnect`; nothing is read before `resume`. `onBytes` gets views that
 * are valid only during the call. Throws what `onBytes` throws.
 */
export function takeOver(accepted: Socket, direct: Direct, onBytes: (chunk: Buffer) => void): DirectSocket {
  const handle = direct === false ? undefined : detachHandle(accepted);
  if (handle === undefined) {
    accepted.on('data', onBytes);
    accepted.on('end', () => accepted.end());
    accepted.pause();
    return new StreamSocket(accepted);
  }
  return new HandleSocket(handle, typeof direct === 'object' ? direct : undefined, onBytes);
}

class StreamSocket implements DirectSocket {
  readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  tryWrite(): number {
    return 0;
  }

  get isPaused(): boolean {
    return this.socket.isPaused();
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }
}

/** So many changes from one socket to another, or reads of several together, make a crowd; fewer than that end it. */
const CROWD = 64;

/** Whether the sockets of a server are busy one at a time or many together. */
export class Crowd {
  readonly io: SocketIo;
  #score = 0;
  #last: object | undefined;
  isThere = false;

  constructor(io: SocketIo) {
    this.io = io;
  }

  /** The event loop has read of that one. */
  sawOne(socket: object): void {
    this.#note(socket !== this.#last);
    this.#last = socket;
  }

  sawTogether(count: number): void {
    this.#note(count > 1);
  }

  gone(socket: object): void {
    if (this.#last === socket) this.#last = undefined;
  }

  #note(isCrowded: boolean): void {
    this.#score = Math.max(0, Math.min(CROWD, this.#score + (isCrowded ? 1 : -1)));
    if (this.#score === CROWD) this.isThere = true;
    else if (this.#score === 0) this.isThere = false;
  }
}

/** Read by the event loop, or in a crowd by `io`: that is dearer for one and cheaper for many. */
class HandleSocket implements DirectSocket {
  readonly socket: Socket;
  readonly #fd: number;
  readonly #crowd: Crowd | undefined;
  readonly #onBytes: (chunk: Buffer) => void;
  #watch: ReturnType<SocketIo['watch']> | undefined;
  #reading = false;
  #inCrowd = false;

  constructor(handle: Handle, crowd: Crowd | undefined, onBytes: (chunk: Buffer) => void) {
    this.#fd = handle.fd;
    this.#crowd = crowd;
    this.#onBytes = onBytes;
    const onread = { buffer: readBuffer, callback: (count: number): boolean => this.#read(count) };
    const options: SocketConstructorOpts & { handle: Handle; onread: OnReadOpts } = {
      handle,
      onread,
      readable: true,
      writable: true,
    };
    this.socket = new Socket(options);
    this.socket.on('end', () => this.socket.end());
    this.socket.on('close', () => {
      this.#watch?.forget();
      crowd?.gone(this);
    });
  }

  get isPaused(): boolean {
    return !this.#reading;
  }

  pause(): void {
    if (!this.#reading) return;
    this.#reading = false;
    this.#stop();
  }

  resume(): void {
    if (this.#reading) return;
    this.#reading = true;
    this.#start();
  }

  tryWrite(bytes: Buffer, length: number): number {
    const { socket } = this;
    // Bytes that wait in the stream go first; and once the socket is destroyed, its number may belong to another file.
    if (socket.destroyed || socket.writableEnded || socket.writableLength > 0) return 0;
    // A full buffer, or a client that is gone: the stream waits for the one and reports the other.
    return this.#crowd === undefined
      ? writeNow(this.#fd, bytes, length)
      : Math.max(0, this.#crowd.io.write(this.#fd, bytes, length));
  }

  #start(): void {
    if (this.socket.destroyed) return;
    if (!this.#inCrowd) this.socket.resume();
    else if (this.#watch === undefined)
      this.#watch = this.#crowd?.io.watch(this.#fd, (together) => this.#readNow(together));
    else this.#watch.resume();
  }

  #stop(): void {
    if (this.socket.destroyed) return;
    if (this.#inCrowd) this.#watch?.pause();
    else this.socket.pause();
  }

  /** The event loop has read. */
  #read(count: number): boolean {
    this.#onBytes(received(count));
    this.#crowd?.sawOne(this);
    if (this.#crowd?.isThere === true && this.#reading) this.#change(true);
    return true;
  }

  #readNow(together: number): void {
    const crowd = this.#crowd;
    // The number may belong to another file by now.
    if (!this.#reading || !this.#inCrowd || this.socket.destroyed || crowd === undefined) return;
    const count = crowd.io.read(this.#fd, readBuffer);
    if (count > 0) this.#onBytes(received(count));
    crowd.sawTogether(together);
    // The event loop knows best how a stream ends.
    if (this.#reading && ((count <= 0 && count !== -EAGAIN) || !crowd.isThere)) this.#change(false);
  }

  #change(inCrowd: boolean): void {
    this.#stop();
    this.#inCrowd = inCrowd;
    this.#start();
  }
}

function writeNow(fd: number, bytes: Buffer, length: number): number {
  try {
    return writeSync(fd, bytes, 0, length);
  } catch {
    return 0;
  }
}

function detachHandle(accepted: Socket): Handle | undefined {
  const holder = accepted as unknown as { _handle?: unknown };
  const handle = holder._handle;
  if (!isHandle(handle)) return undefined;
  holder._handle = null;
  return handle;
}

function isHandle(handle: unknown): handle is Handle {
  if (typeof handle !== 'object' || handle === null || !('fd' in handle) || !('readStart' in handle)) return false;
  return Number.isInteger(handle.fd) && (handle.fd as number) >= 0 && typeof handle.readStart === 'function';
}
