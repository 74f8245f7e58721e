/**
 * Reads and writes of an accepted socket with as little in between as Node.js allows: all sockets read into one buffer,
 * and what the kernel takes at once is written without a stream (a quarter of the CPU time of a small request). Where
 * Node.js has not what this needs, an ordinary stream does the same. Knows nothing of the protocol.
 */
import { writeSync } from 'node:fs';
import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';

const READ_BYTES = 64 * 1024;
/** Valid only within one call; one thread, one call at a time. */
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

/** What a socket has below, and tells nobody. */
interface Handle {
  readonly fd: number;
  readStart(): unknown;
}

export interface DirectSocket {
  readonly socket: Socket;
  /** Writes the first `length` bytes as far as that is possible at once; returns how many. The rest is for the stream. */
  readonly tryWrite: (bytes: Buffer, length: number) => number;
}

/**
 * Takes over a socket that was accepted with `pauseOnConnect`; nothing is read before `socket.resume()`. `onBytes` gets
 * views that are valid only during the call. Throws what `onBytes` throws.
 */
export function takeOver(accepted: Socket, direct: boolean, onBytes: (chunk: Buffer) => void): DirectSocket {
  const handle = direct ? detachHandle(accepted) : undefined;
  if (handle === undefined) {
    accepted.on('data', onBytes);
    accepted.pause();
    return { socket: accepted, tryWrite: () => 0 };
  }
  const onread = {
    buffer: readBuffer,
    callback: (count: number): boolean => {
      onBytes(readBuffer.subarray(0, count));
      return true;
    },
  };
  const options: SocketConstructorOpts & { handle: Handle; onread: OnReadOpts } = {
    handle,
    onread,
    readable: true,
    writable: true,
  };
  const socket = new Socket(options);
  return { socket, tryWrite: writerOf(socket, handle) };
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

function writerOf(socket: Socket, { fd }: Handle): (bytes: Buffer, length: number) => number {
  return (bytes, length) => {
    // Bytes that wait in the stream go first; and once the socket is destroyed, its number may belong to another file.
    if (socket.destroyed || socket.writableEnded || socket.writableLength > 0) return 0;
    try {
      return writeSync(fd, bytes, 0, length);
    } catch {
      // A full buffer, or a client that is gone: the stream waits for the one and reports the other.
      return 0;
    }
  };
}
