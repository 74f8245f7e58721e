/**
 * Unix sockets for an engine: listening, back-pressure, nothing of the protocol.
 */
import { lstatSync, renameSync, rmSync } from 'node:fs';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { type StoreClock, systemStoreClock } from '../client/options.js';
import { XenstoreError } from '../errors.js';
import { Crowd, type Direct, type SocketIo } from './direct-socket.js';
import type { XenstoreEngine } from './engine.js';
import { MAX_WAITING_BYTES, SocketClient } from './socket-client.js';
import { Turn, Turns } from './turns.js';

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

export interface ServerOptions {
  readonly clock?: StoreClock;
  /** What sockets are read and written with; default what Node.js has below its streams, `false` for the streams. */
  readonly direct?: SocketIo | boolean;
}

const SILENT: ServerLog = { log: () => {} };

export class XenstoreServer {
  readonly counters: ServerCounters = { accepted: 0, refused: 0, overflowed: 0 };
  readonly #engine: XenstoreEngine;
  readonly #log: ServerLog;
  readonly #listeners = new Set<Listener>();
  readonly #turns: Turns;
  readonly #direct: Direct;
  #temporaryNames = 0;

  constructor(
    engine: XenstoreEngine,
    log: ServerLog = SILENT,
    { clock = systemStoreClock, direct = true }: ServerOptions = {},
  ) {
    this.#direct = typeof direct === 'object' ? new Crowd(direct) : direct;
    this.#engine = engine;
    this.#log = log;
    this.#turns = new Turns(clock);
  }

  /**
   * Listens at `socketPath`; who connects there acts as `domid`. A socket that nobody serves is replaced. Throws
   * XenstoreError EBUSY where another server answers, EEXIST where the path is no socket.
   */
  async listen(socketPath: string, domid = 0): Promise<Listener> {
    await refuseIfTaken(socketPath);
    const sockets = new Set<Socket>();
    const server = createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket, domid, sockets));
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
    // Its callback would wait for sockets that others have taken over.
    server.close();
    const gone = [...sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    for (const socket of sockets) socket.destroy();
    rmSync(listener.path, { force: true });
    await Promise.all(gone);
    this.#log.log('info', 'xenstore socket closed', { path: listener.path, domid: listener.domid });
  }

  #accept(accepted: Socket, domid: number, sockets: Set<Socket>): void {
    let client: SocketClient;
    try {
      // Guests must not be able to have dom0 wait for them.
      const turn = domid === 0 ? new Turn(this.#turns) : undefined;
      const options = { domid, turn, direct: this.#direct, onOverflow: () => this.#overflow(domid) };
      client = new SocketClient(this.#engine, accepted, options);
    } catch (error) {
      this.counters.refused++;
      this.#log.log('debug', 'xenstore connection refused', { domid, reason: String(error) });
      accepted.on('error', () => {});
      accepted.destroy();
      return;
    }
    this.counters.accepted++;
    const { socket } = client;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
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
