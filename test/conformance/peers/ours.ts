/**
 * The project's own xenstore daemon as a peer. Domains appear and vanish through the engine's own entry points, as the
 * simulation uses them; INTRODUCE and RELEASE come over the wire as for any daemon.
 */
import { XenstoreEngine } from '../../../xenstore/daemon/engine.js';
import type { Likeness } from '../../../xenstore/daemon/likeness.js';
import type { Wire } from '../connection.js';
import type { MachineVerb, Peer } from './peer.js';

/** A connection straight into the engine: no socket in between, so what is received is what was decided. */
class EngineWire implements Wire {
  readonly #connection: { push(chunk: Buffer): void; close(): void };
  readonly #received: Buffer[] = [];
  #onBytes: (bytes: Buffer) => void = () => {};
  #onClosed: () => void = () => {};

  constructor(engine: XenstoreEngine, domid: number) {
    const later = (bytes: Buffer) => {
      this.#received.push(bytes);
      queueMicrotask(() => this.#deliver());
    };
    this.#connection = engine.connect(domid, later, () => queueMicrotask(() => this.#onClosed()));
  }

  #deliver(): void {
    for (const bytes of this.#received.splice(0)) this.#onBytes(bytes);
  }

  send(bytes: Buffer): void {
    this.#connection.push(bytes);
  }

  onBytes(listener: (bytes: Buffer) => void): void {
    this.#onBytes = listener;
  }

  onClosed(listener: () => void): void {
    this.#onClosed = listener;
  }

  pause(): void {}
  resume(): void {}

  close(): void {
    this.#connection.close();
  }
}

export class OurDaemon implements Peer {
  readonly name: string;
  readonly #engine: XenstoreEngine;
  /** What the hypervisor has; the engine asks. */
  readonly #domains = new Set<number>([0]);
  readonly #shutDown = new Set<number>();

  constructor(like: Likeness) {
    this.name = `ours, like ${like}`;
    this.#engine = new XenstoreEngine({ like, domainExists: (domid) => this.#domains.has(domid) });
  }

  connect(): Promise<Wire> {
    return Promise.resolve(new EngineWire(this.#engine, 0));
  }

  connectDomain(domid: number): Promise<Wire> {
    return Promise.resolve(new EngineWire(this.#engine, domid));
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

  close(): Promise<void> {
    return Promise.resolve();
  }
}
