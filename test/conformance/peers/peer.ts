/** A xenstore daemon under test, seen from outside: connections and the machine it believes to run on. */
import type { Wire } from '../connection.js';

/** What can happen to a domain without the toolstack telling the daemon. */
export type MachineVerb = 'create' | 'shutdown' | 'dying' | 'destroy' | 'notice';

export interface Peer {
  readonly name: string;
  /** How long to listen where silence is what the script expects. */
  readonly silenceMs: number;
  /** A new privileged connection. */
  connect(): Promise<Wire>;
  /** The connection of an introduced domain. */
  connectDomain(domid: number): Promise<Wire>;
  /** Makes something happen to a domain; the daemon may learn of it a moment later. */
  machine(verb: MachineVerb, domid: number): Promise<void>;
  close(): Promise<void>;
}
