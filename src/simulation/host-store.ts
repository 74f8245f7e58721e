/**
 * The simulated xenstored of a host: one engine, a socket for dom0 and one for each domain, told by the hypervisor which
 * domains exist. Knows nothing of what stands in the tree.
 */

import { XenstoreEngine } from '../../xenstore/daemon/engine.js';
import type { Likeness } from '../../xenstore/daemon/likeness.js';
import { XenstoreServer } from '../../xenstore/daemon/server.js';
import { type Store, XenstoreClient } from '../../xenstore/index.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import type { SimulatedHypervisor } from '../hypervisor/simulated.js';

export interface HostStoreOptions {
  readonly path: string;
  readonly hypervisor: SimulatedHypervisor;
  readonly clock: Clock;
  readonly log: Logger;
  readonly like?: Likeness;
}

export class HostStore {
  readonly path: string;
  readonly #engine: XenstoreEngine;
  readonly #server: XenstoreServer;
  readonly #clock: Clock;

  private constructor(path: string, engine: XenstoreEngine, server: XenstoreServer, clock: Clock) {
    this.path = path;
    this.#engine = engine;
    this.#server = server;
    this.#clock = clock;
  }

  static async start({ path, hypervisor, clock, log, like }: HostStoreOptions): Promise<HostStore> {
    const engine = new XenstoreEngine({
      domainExists: (domid) => domid === 0 || hypervisor.isAlive(domid),
      ...(like === undefined ? {} : { like }),
    });
    const server = new XenstoreServer(engine, log.with({ in: 'xenstored' }));
    await server.listen(path);
    return new HostStore(path, engine, server, clock);
  }

  /** Opens the socket that plays /dev/xen/xenbus in an introduced domain; returns what closes it. */
  async openDomain(domid: number, path: string): Promise<() => Promise<void>> {
    const listener = await this.#server.listen(path, domid);
    return () => listener.close();
  }

  /** The hypervisor has no such domain any more: VIRQ_DOM_EXC. */
  domainGone(domid: number): void {
    this.#engine.releaseDomain(domid);
  }

  /** A connection that does not come back when it is lost: it ends with whoever owns it. */
  connect(path: string): Promise<Store> {
    return XenstoreClient.connect({ path, clock: this.#clock, reconnect: false });
  }

  async stop(): Promise<void> {
    await this.#server.close();
  }
}
