/**
 * A whole xenstore for tests: the simulated daemon on sockets in a directory of its own, with clients in dom0 and in
 * guests. Knows no Xen and leaves nothing behind.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ConnectOptions,
  type EngineOptions,
  type TreeDump,
  XenstoreClient,
  XenstoreEngine,
  XenstoreServer,
} from '../../xenstore/index.js';

export interface SimulatedStore {
  /** The directory of the sockets. */
  readonly directory: string;
  /** Dom0's socket: for XENSTORED_PATH, and for genuine clients such as xenstore-ls. */
  readonly path: string;
  /** A client with all rights. */
  readonly dom0: XenstoreClient;
  readonly engine: XenstoreEngine;
  // Properties, not methods: tests take them out of the object.
  /** Another client with all rights. */
  readonly connect: (options?: ConnectOptions) => Promise<XenstoreClient>;
  /** A client with the rights and the relative paths of a domain, which is introduced first if it is not yet. */
  readonly asDomain: (domid: number, options?: ConnectOptions) => Promise<XenstoreClient>;
  /** The socket that clients of a domain connect to, for programs that run as that guest. */
  readonly socketOfDomain: (domid: number) => Promise<string>;
  /** The whole tree, for expectations. */
  readonly dump: () => TreeDump;
  /** Ends all connections at once, as a daemon that crashes, and answers again when the promise is resolved. */
  readonly restart: () => Promise<void>;
  /** Closes all clients, ends the daemon and removes the directory. */
  readonly stop: () => Promise<void>;
}

/** Clients do not reconnect unless `options` of their own say so. */
export async function startStore(engineOptions: EngineOptions = {}): Promise<SimulatedStore> {
  const store = new Running(new XenstoreEngine(engineOptions));
  await store.listen();
  return {
    directory: store.directory,
    path: store.path,
    dom0: await store.connect(0),
    engine: store.engine,
    connect: (options) => store.connect(0, options),
    asDomain: (domid, options) => store.connect(domid, options),
    socketOfDomain: (domid) => store.socketOfDomain(domid),
    dump: () => store.engine.dump(),
    restart: () => store.restart(),
    stop: () => store.stop(),
  };
}

class Running {
  readonly directory = mkdtempSync(join(tmpdir(), 'xenstore-'));
  readonly path = join(this.directory, 'socket');
  readonly engine: XenstoreEngine;
  /** By domid. */
  readonly #sockets = new Map<number, Promise<string>>();
  readonly #clients: XenstoreClient[] = [];
  #server: XenstoreServer;

  constructor(engine: XenstoreEngine) {
    this.engine = engine;
    this.#server = new XenstoreServer(engine);
  }

  async listen(): Promise<void> {
    await this.#server.listen(this.path);
  }

  async connect(domid: number, options: ConnectOptions = {}): Promise<XenstoreClient> {
    if (domid !== 0 && !this.engine.isIntroduced(domid)) this.engine.introduceDomain(domid);
    const path = await this.socketOfDomain(domid);
    const client = await XenstoreClient.connect({ reconnect: false, ...options, path });
    this.#clients.push(client);
    return client;
  }

  socketOfDomain(domid: number): Promise<string> {
    if (domid === 0) return Promise.resolve(this.path);
    const path = join(this.directory, `domain-${domid}`);
    const socket = this.#sockets.get(domid) ?? this.#server.listen(path, domid).then(() => path);
    this.#sockets.set(domid, socket);
    return socket;
  }

  async restart(): Promise<void> {
    await this.#server.close();
    this.#server = new XenstoreServer(this.engine);
    await this.listen();
    const domids = [...this.#sockets.keys()];
    this.#sockets.clear();
    await Promise.all(domids.map((domid) => this.socketOfDomain(domid)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#clients.splice(0).map((client) => client.close()));
    await this.#server.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
