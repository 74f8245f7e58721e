/**
 * The byte stream under a client: which path it is found at, and the Unix socket. Decides nothing about the protocol.
 * Path rules: xen:tools/include/xen-tools/xenstore-common.h and xen:tools/libs/store/xs.c (xs_open, get_handle).
 */
import { stat } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { XenstoreError } from '../errors.js';
import { openDeviceTransport } from './device.js';
import { type ConnectOptions, type StoreClock, systemStoreClock } from './options.js';

export interface TransportHandlers {
  readonly onData: (chunk: Buffer) => void;
  /** After `write` returned false: more may be written now. */
  readonly onWritable: () => void;
  /** Only devices: the kernel refused the message written last, with an errno name. */
  readonly onRefused: (errno: string) => void;
  /** The stream ended or failed; called once, never after `close`. */
  readonly onClosed: (cause?: Error) => void;
}

/** A connected byte stream to a xenstore daemon. */
export interface Transport {
  /**
   * `socket`: 4096 bytes of payload, requests may be pipelined and joined. `device`: the Linux kernel is in between;
   * one message of at most 4096 bytes with its header per `write`, one request at a time. `ring`: as `socket`, but the
   * connection of a domain.
   */
  readonly kind: 'socket' | 'device' | 'ring';
  /** Begins to deliver; called once. */
  start(handlers: TransportHandlers): void;
  /** Takes all the bytes; false asks to hold further ones back until `onWritable`. */
  write(bytes: Buffer): boolean;
  /** Ends the stream at once; resolves when its descriptor is released. */
  close(): Promise<void>;
}

/** sun_path without its NUL. */
const MAX_SOCKET_PATH_BYTES = 107;
/** Bytes that the kernel has not taken yet, above which nothing more is sent until it has. */
const MAX_UNSENT_BYTES = 64 * 1024;

/** The places to look for a daemon, best first, as libxenstore does. */
export function candidatePaths(env: NodeJS.ProcessEnv): readonly string[] {
  if (env['XENSTORED_PATH']) return [env['XENSTORED_PATH']];
  const device = '/dev/xen/xenbus';
  if (env['XENSTORED_RUNDIR']) return [`${env['XENSTORED_RUNDIR']}/socket`, device];
  return ['/run/xenstored/socket', '/var/run/xenstored/socket', device];
}

/**
 * Genuine daemons listen with a backlog of one (xen:tools/xenstored/posix.c: listen(sock, 1)), so that of several
 * clients that come at once some get EAGAIN. libxenstore's blocking connect waits; this one asks again so often, with
 * such a pause, which makes about two seconds.
 */
const BUSY_TRIES = 200;
const BUSY_DELAY_MS = 10;

export interface OpenedTransport {
  readonly transport: Transport;
  readonly path: string;
}

type OpenOptions = Pick<ConnectOptions, 'openDevice' | 'signal' | 'clock' | 'via'>;

/** Opens the first path that works. Throws XenstoreError `unreachable` with each path and its errno, or `not-permitted`. */
export async function openTransport(paths: readonly string[], options: OpenOptions): Promise<OpenedTransport> {
  const { via } = options;
  if (via !== undefined) return openVia(via.name, via.open);
  const failures: { path: string; cause: unknown }[] = [];
  for (const path of paths) {
    try {
      return { transport: await openOne(path, options), path };
    } catch (cause) {
      options.signal?.throwIfAborted();
      failures.push({ path, cause });
    }
  }
  throw unreachable(failures);
}

async function openVia(name: string, open: () => Transport | Promise<Transport>): Promise<OpenedTransport> {
  try {
    return { transport: await open(), path: name };
  } catch (cause) {
    throw unreachable([{ path: name, cause }]);
  }
}

async function openOne(path: string, options: OpenOptions): Promise<Transport> {
  const { signal, openDevice = openDeviceTransport } = options;
  signal?.throwIfAborted();
  const status = await stat(path);
  signal?.throwIfAborted();
  if (status.isSocket()) return connectPatiently(path, signal, options.clock ?? systemStoreClock);
  if (status.isCharacterDevice()) {
    const transport = await openDevice(path);
    if (signal?.aborted) await transport.close();
    signal?.throwIfAborted();
    return transport;
  }
  throw Object.assign(new Error(`${path} is neither a socket nor a character device`), { code: 'ENOTSOCK' });
}

function errnoOf(cause: unknown): string {
  const code = (cause as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : cause instanceof Error ? cause.message : String(cause);
}

function unreachable(failures: readonly { path: string; cause: unknown }[]): XenstoreError {
  const refused = failures.find(({ cause }) => ['EACCES', 'EPERM'].includes(errnoOf(cause)));
  if (refused !== undefined) {
    return new XenstoreError(
      'not-permitted',
      `no permission to open the xenstore at ${refused.path} (${errnoOf(refused.cause)}): this usually needs root`,
      { cause: refused.cause },
    );
  }
  const list = failures.map(({ path, cause }) => `${path} (${errnoOf(cause)})`).join(', ');
  return new XenstoreError('unreachable', `no xenstore daemon answers at ${list}`, { cause: failures[0]?.cause });
}

async function connectPatiently(path: string, signal: AbortSignal | undefined, clock: StoreClock): Promise<Transport> {
  for (let tries = 1; ; tries++) {
    try {
      return await connectSocket(path, signal);
    } catch (error) {
      if (errnoOf(error) !== 'EAGAIN' || tries === BUSY_TRIES) throw error;
    }
    await new Promise<void>((resolve) => {
      clock.after(BUSY_DELAY_MS, resolve);
    });
    signal?.throwIfAborted();
  }
}

function connectSocket(path: string, signal: AbortSignal | undefined): Promise<Transport> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    const sentence = `socket path of ${Buffer.byteLength(path)} bytes, limit ${MAX_SOCKET_PATH_BYTES}`;
    return Promise.reject(Object.assign(new Error(sentence), { code: 'ENAMETOOLONG' }));
  }
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path, writableHighWaterMark: MAX_UNSENT_BYTES } as { path: string });
    const onAbort = (): void => void socket.destroy(new Error('aborted'));
    signal?.addEventListener('abort', onAbort, { once: true });
    const settle = (): void => {
      signal?.removeEventListener('abort', onAbort);
      socket.removeAllListeners();
    };
    socket.once('error', (error) => {
      settle();
      // A destroyed socket may still report; nobody is interested any more.
      socket.on('error', () => {});
      reject(error);
    });
    socket.once('connect', () => {
      settle();
      resolve(new SocketTransport(socket));
    });
  });
}

class SocketTransport implements Transport {
  readonly kind = 'socket';
  readonly #socket: Socket;
  #closing = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    // Until `start`, nothing is read; an error in between comes back as 'close' there.
    socket.on('error', () => {});
  }

  start(handlers: TransportHandlers): void {
    const socket = this.#socket;
    let failure: Error | undefined;
    if (socket.destroyed) {
      process.nextTick(handlers.onClosed);
      return;
    }
    socket.on('data', (chunk: Buffer) => {
      if (!this.#closing) handlers.onData(chunk);
    });
    socket.on('drain', () => {
      if (!this.#closing) handlers.onWritable();
    });
    socket.on('error', (error) => {
      failure = error;
    });
    // A daemon that ends its half never answers again.
    socket.on('end', () => socket.destroy());
    socket.on('close', () => {
      if (!this.#closing) handlers.onClosed(failure);
    });
  }

  write(bytes: Buffer): boolean {
    return this.#socket.write(bytes);
  }

  close(): Promise<void> {
    this.#closing = true;
    if (this.#socket.closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#socket.once('close', () => resolve());
      this.#socket.destroy();
    });
  }
}
