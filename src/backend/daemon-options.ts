/** What a daemon needs. Types only. */
import type { Store } from '../../xenstore/index.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import type { Hypervisor } from '../hypervisor/ports.js';
import type { ChardevMaker } from './make-chardev.js';
import type { SpoolPlace } from './spool-files.js';

export interface DaemonOptions {
  /** Not closed by the daemon. */
  readonly store: Store;
  /** Not closed by the daemon. */
  readonly hypervisor: Hypervisor;
  readonly clock: Clock;
  readonly log: Logger;
  readonly runDirectory: string;
  /** Where the records of channels that shall exist lie. Absent: none are brought back. */
  readonly stateDirectory?: string;
  /** The domain this daemon runs in. Default 0. */
  readonly backendDomid?: number;
  /** Where spools are kept. Default `auto`. */
  readonly spool?: SpoolPlace;
  /** Default: sockets, and for the rest a host end that says it is not there. */
  readonly createChardev?: ChardevMaker;
  /** A descriptor that listens at the control socket's path already; it is closed, the path stays. */
  readonly controlSocket?: number;
}
