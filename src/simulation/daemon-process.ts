/**
 * The real daemon as a process of the simulated host: with a xenstore connection and hypervisor rights of its own, so
 * that it can be stopped, killed and started again like one. Knows no domain.
 */
import type { Store } from '../../xenstore/index.js';
import { BackendDaemon } from '../backend/daemon.js';
import type { SpoolPlace } from '../backend/spool-files.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import type { SimulatedHypervisor } from '../hypervisor/simulated.js';

export interface DaemonProcessOptions {
  readonly connect: () => Promise<Store>;
  readonly hypervisor: SimulatedHypervisor;
  readonly clock: Clock;
  readonly log: Logger;
  readonly runDirectory: string;
  readonly stateDirectory: string;
  readonly spool: SpoolPlace;
}

export class DaemonProcess {
  readonly daemon: BackendDaemon;
  readonly #store: Store;
  readonly #rights: ReturnType<SimulatedHypervisor['openBackend']>;

  private constructor(daemon: BackendDaemon, store: Store, rights: ReturnType<SimulatedHypervisor['openBackend']>) {
    this.daemon = daemon;
    this.#store = store;
    this.#rights = rights;
  }

  static async start(options: DaemonProcessOptions): Promise<DaemonProcess> {
    const { connect, hypervisor, clock, log, runDirectory, stateDirectory, spool } = options;
    const store = await connect();
    const rights = hypervisor.openBackend(0);
    try {
      const daemon = await BackendDaemon.start({
        store,
        hypervisor: rights,
        clock,
        log,
        runDirectory,
        stateDirectory,
        spool,
        backendDomid: 0,
      });
      return new DaemonProcess(daemon, store, rights);
    } catch (error) {
      rights.close();
      await store.close();
      throw error;
    }
  }

  /** SIGTERM: the daemon's own orderly end. */
  async stop(): Promise<void> {
    await this.daemon.stop();
    this.#rights.close();
    await this.#store.close();
  }

  /** SIGKILL: what the kernel does for a dead process, in one step, with no chance to say anything. */
  async crash(): Promise<void> {
    this.daemon.abandon();
    this.#rights.crash();
    await this.#store.close();
  }
}
