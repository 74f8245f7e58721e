/**
 * The simulated xenstored of a host: one engine, a socket for dom0 and one for each domain, told by the hypervisor which
 * domains exist. Knows nothing of what stands in the tree.
 */

import { XenstoreEngine } from '../../xenstore/daemon/engine.js';
import type { Likeness } from '../../xenstore/daemon/likeness.js';
import { XenstoreServer } from '../../xenstore/daemon/server.js';
import { RingServer, ringOpener, type Store, XenstoreClient } from '../../xenstore/index.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import { GuestPage } from '../hypervisor/guest-page.js';
import type { SimulatedHypervisor } from '../hypervisor/simulated.js';
import { openSocketIo, type SocketIo } from '../sys/socket-io.js';

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
  readonly #calls: SocketIo | undefined;
  readonly #clock: Clock;

  private constructor(
    path: string,
    engine: XenstoreEngine,
    server: XenstoreServer,
    calls: SocketIo | undefined,
    clock: Clock,
  ) {
    this.path = path;
    this.#engine = engine;
    this.#server = server;
    this.#calls = calls;
    this.#clock = clock;
  }

  static async start({ path, hypervisor, clock, log, like }: HostStoreOptions): Promise<HostStore> {
    const engine = new XenstoreEngine({
      domainExists: (domid) => domid === 0 || hypervisor.isAlive(domid),
      ...(like === undefined ? {} : { like }),
    });
    const calls = openSocketIo();
    const server = new XenstoreServer(engine, log.with({ in: 'xenstored' }), { direct: calls ?? true });
    try {
      await server.listen(path);
    } catch (error) {
      calls?.close();
      throw error;
    }
    return new HostStore(path, engine, server, calls, clock);
  }

  /** Opens the socket that plays /dev/xen/xenbus in an introduced domain; returns what closes it. */
  async openDomain(domid: number, path: string): Promise<() => Promise<void>> {
    const listener = await this.#server.listen(path, domid);
    return () => listener.close();
  }

  /**
   * The connection of an introduced domain's own kernel, over a page and doorbells as on a genuine host; `end` is what
   * becomes of it with the domain.
   */
  async connectKernel(domid: number): Promise<{ store: Store; end: () => Promise<void> }> {
    const page = new GuestPage().bytes;
    const handlers = new Set<() => void>();
    const toGuest = doorbell(() => {
      for (const handler of handlers) handler();
    });
    // A real kernel would wait for ever, but it is gone with its domain; what waits here must hear of it.
    let store: XenstoreClient | undefined;
    const onGone = (): void => void store?.close();
    const server = new RingServer({ engine: this.#engine, domid, page, notify: toGuest, onGone, clock: this.#clock });
    const onEvent = (handler: () => void): (() => void) => {
      handlers.add(handler);
      return () => handlers.delete(handler);
    };
    const open = ringOpener({ page, notify: doorbell(() => server.poll()), onEvent, clock: this.#clock });
    const via = { name: `the ring of domain ${domid}`, open };
    const client = await XenstoreClient.connect({ via, clock: this.#clock, reconnect: false });
    store = client;
    const end = async (): Promise<void> => {
      await client.close();
      server.close();
    };
    return { store: client, end };
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
    this.#calls?.close();
  }
}

/** An event channel: never from inside the call, and many rings may be one. */
function doorbell(ring: () => void): () => void {
  let pending = false;
  return () => {
    if (pending) return;
    pending = true;
    setImmediate(() => {
      pending = false;
      ring();
    });
  };
}
