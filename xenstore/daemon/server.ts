/**
 * Unix sockets for an engine: listening, back-pressure, nothing of the protocol.
 */
import { lstatSync, renameSync, rmSync } from 'node:fs';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { XenstoreError } from '../errors.js';
import type { EngineConnection, XenstoreEngine } from './engine.js';

export interface ServerLog {
  log(level: 'debug' | 'info' | 'warn' | 'error', msg: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface Listener {
  readonly path: string;
  readonly domid: number;
  close(): Promise<void>;
}

export interface ServerCounters {
  accepted: number;
  /** Connections of domains that are not introduced. */
  refused: number;
  /** Connections ended because the client did not read. */
  overflowed: number;
}

/** What a client that does not read may have waiting; libxenstore's reader thread never lets it come near this. */
const MAX_WAITING_BYTES = { dom0: 64 * 1024 * 1024, guest: 2 * 1024 * 1024 } as const;
/** Requests of a dom0 client are read on until its unread replies reach this: simple clients send much before they read. */
const PAUSE_DOM0_BYTES = 1024 * 1024;
/** A guest's requests are handled in pieces of this size, so that one chunk cannot cause replies without bound. */
const GUEST_PIECE_BYTES = 4096;

const SILENT: ServerLog = { log: () => {} };

export class XenstoreServer {
  readonly counters: ServerCounters = { accepted: 0, refused: 0, overflowed: 0 };
  readonly #engine: XenstoreEngine;
  readonly #log: ServerLog;
  readonly #listeners = new Set<Listener>();
  #temporaryNames = 0;

  constructor(engine: XenstoreEngine, log: ServerLog = SILENT) {
    this.#engine = engine;
    this.#log = log;
  }

  /**
   * Listens at `socketPath`; who connects there acts as `domid`. A socket that nobody serves is replaced. Throws
   * XenstoreError EBUSY where another server answers, EEXIST where the path is no socket.
   */
  async listen(socketPath: string, domid = 0): Promise<Listener> {
    await refuseIfTaken(socketPath);
    const sockets = new Set<Socket>();
    const server = createServer((socket) => this.#accept(socket, domid, sockets));
    // Bound elsewhere and moved into place: clients never see a socket that has the wrong mode or does not answer.
    const temporary = `${socketPath}.${process.pid}-${this.#temporaryNames++}`;
    await bind(server, temporary);
    try {
      renameSync(temporary, socketPath);
    } catch (cause) {
      server.close();
      rmSync(temporary, { force: true });
      throw new XenstoreError('EIO', `cannot put a xenstore socket at ${socketPath}`, { cause });
    }
    const listener: Listener = {
      path: socketPath,
      domid,
      close: () => this.#close(listener, server, sockets),
    };
    this.#listeners.add(listener);
    this.#log.log('info', 'xenstore socket opened', { path: socketPath, domid });
    return listener;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#listeners].map((listener) => listener.close()));
  }

  async #close(listener: Listener, server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
    if (!this.#listeners.delete(listener)) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    const gone = [...sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    for (const socket of sockets) socket.destroy();
    rmSync(listener.path, { force: true });
    await Promise.all([closed, ...gone]);
    this.#log.log('info', 'xenstore socket closed', { path: listener.path, domid: listener.domid });
  }

  #accept(socket: Socket, domid: number, sockets: Set<Socket>): void {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    let client: SocketClient;
    try {
      client = new SocketClient(this.#engine, socket, domid, () => this.#overflow(domid));
    } catch (error) {
      this.counters.refused++;
      this.#log.log('debug', 'xenstore connection refused', { domid, reason: String(error) });
      socket.destroy();
      return;
    }
    this.counters.accepted++;
    client.start();
  }

  #overflow(domid: number): void {
    this.counters.overflowed++;
    this.#log.log('warn', 'xenstore client does not read: connection closed', {
      domid,
      limitBytes: domid === 0 ? MAX_WAITING_BYTES.dom0 : MAX_WAITING_BYTES.guest,
    });
  }
}

/** One accepted socket and its engine connection. */
class SocketClient {
  readonly #socket: Socket;
  readonly #connection: EngineConnection;
  readonly #isGuest: boolean;
  readonly #onOverflow: () => void;
  /** Received while the client did not read its replies. */
  #postponed: Buffer | undefined;

  constructor(engine: XenstoreEngine, socket: Socket, domid: number, onOverflow: () => void) {
    this.#socket = socket;
    this.#isGuest = domid !== 0;
    this.#onOverflow = onOverflow;
    this.#connection = engine.connect(
      domid,
      (bytes) => this.#send(bytes),
      () => socket.end(),
    );
  }

  start(): void {
    const socket = this.#socket;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('drain', () => {
      this.#connection.release();
      if (!socket.writableNeedDrain) this.#resume();
    });
    socket.on('end', () => socket.end());
    socket.on('close', () => this.#connection.close());
  }

  #receive(chunk: Buffer): void {
    if (!this.#isGuest) {
      this.#connection.push(chunk);
      if (this.#socket.writableLength + this.#connection.waitingBytes > PAUSE_DOM0_BYTES) this.#socket.pause();
      return;
    }
    for (let at = 0; at < chunk.length; at += GUEST_PIECE_BYTES) {
      if (this.#socket.writableNeedDrain) {
        this.#postponed = chunk.subarray(at);
        this.#socket.pause();
        return;
      }
      this.#connection.push(chunk.subarray(at, at + GUEST_PIECE_BYTES));
    }
  }

  #resume(): void {
    const postponed = this.#postponed;
    this.#postponed = undefined;
    if (postponed !== undefined) this.#receive(postponed);
    if (this.#postponed === undefined) this.#socket.resume();
  }

  #send(bytes: Buffer): void {
    const socket = this.#socket;
    if (socket.destroyed || socket.writableEnded) return;
    const limit = this.#isGuest ? MAX_WAITING_BYTES.guest : MAX_WAITING_BYTES.dom0;
    if (socket.writableLength + bytes.length > limit) {
      this.#onOverflow();
      socket.destroy();
    } else if (!socket.write(bytes)) this.#connection.hold();
  }
}

/** Only a socket that nobody serves may be replaced. */
async function refuseIfTaken(socketPath: string): Promise<void> {
  const entry = lstatSync(socketPath, { throwIfNoEntry: false });
  if (entry === undefined) return;
  if (!entry.isSocket()) {
    throw new XenstoreError('EEXIST', `${socketPath} exists and is no socket: left alone`);
  }
  if (await isServed(socketPath)) {
    throw new XenstoreError('EBUSY', `another xenstore daemon serves ${socketPath}`);
  }
}

function isServed(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = dial(socketPath);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    // Anything but a refusal means that somebody may be there.
    probe.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT');
    });
  });
}

function bind(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new XenstoreError('EIO', `cannot listen at ${socketPath}`, { cause }));
    });
    // The bind happens within the call, so that nobody can meet the socket with another mode than 0600.
    const umask = process.umask(0o177);
    try {
      server.listen(socketPath, () => resolve());
    } finally {
      process.umask(umask);
    }
  });
}
