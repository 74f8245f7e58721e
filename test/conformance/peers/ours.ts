/**
 * The project's own xenstore daemon as a peer, behind real sockets, guests on sockets or on rings. Domains appear and vanish through the engine's own
 * entry points, as the simulation uses them; INTRODUCE and RELEASE come over the wire as for any daemon.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XenstoreEngine } from '../../../xenstore/daemon/engine.js';
import type { Likeness } from '../../../xenstore/daemon/likeness.js';
import { XenstoreServer } from '../../../xenstore/daemon/server.js';
import type { Wire } from '../connection.js';
import type { MachineVerb, Peer } from './peer.js';
import { ringWire } from './ring.js';
import { connectTo } from './socket.js';

/** What connects guests: the socket that plays /dev/xen/xenbus, or a shared page. */
export type Transport = 'sockets' | 'rings';

export class OurDaemon implements Peer {
  readonly name: string;
  /** It runs in this process. */
  readonly silenceMs = 50;
  readonly #engine: XenstoreEngine;
  readonly #server: XenstoreServer;
  readonly #guests: Transport;
  readonly #folder = mkdtempSync(join(tmpdir(), 'xc-'));
  /** Domains that have a socket. */
  readonly #sockets = new Set<number>();
  /** What the hypervisor has; the engine asks. */
  readonly #domains = new Set<number>([0]);
  readonly #shutDown = new Set<number>();

  private constructor(like: Likeness, guests: Transport) {
    this.name = `ours, like ${like}`;
    this.#guests = guests;
    this.#engine = new XenstoreEngine({ like, domainExists: (domid) => this.#domains.has(domid) });
    this.#server = new XenstoreServer(this.#engine);
  }

  static async start(like: Likeness, guests: Transport): Promise<OurDaemon> {
    const daemon = new OurDaemon(like, guests);
    await daemon.#listen(0);
    return daemon;
  }

  async #listen(domid: number): Promise<void> {
    if (this.#sockets.has(domid)) return;
    this.#sockets.add(domid);
    await this.#server.listen(this.socketPathOf(domid), domid);
  }

  socketPathOf(domid: number): string {
    return join(this.#folder, String(domid));
  }

  get socketPath(): string {
    return this.socketPathOf(0);
  }

  connect(): Promise<Wire> {
    return connectTo(this.socketPath);
  }

  async connectDomain(domid: number): Promise<Wire> {
    if (this.#guests === 'rings') return ringWire(this.#engine, domid);
    await this.#listen(domid);
    return connectTo(this.socketPathOf(domid));
  }

  async machine(verb: MachineVerb, domid: number): Promise<void> {
    if (verb === 'create') {
      this.#domains.add(domid);
      this.#shutDown.delete(domid);
    } else if (verb === 'shutdown') {
      this.#shutDown.add(domid);
      this.#engine.shutdownDomain(domid);
    } else if (verb === 'notice') {
      for (const other of this.#shutDown) this.#engine.shutdownDomain(other);
    } else {
      this.#domains.delete(domid);
      this.#engine.releaseDomain(domid);
    }
  }

  async close(): Promise<void> {
    await this.#server.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
