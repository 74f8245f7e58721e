/**
 * One running domain of a simulated host: its directory, its kernel, and the agent in it. Made and ended by host.ts.
 */
import type { GuestAgent } from '../guest/agent.js';
import type { LibxlChannel } from './libxl-console.js';
import type { LinuxGuest } from './linux-guest.js';

/** What a domain is made of; the same over a reboot. */
export interface DomainSpec {
  /** Default: the next one that was never used. A dead domain's id can be used again, which libxl avoids for a minute. */
  readonly domid?: number;
  /** Default: guest1, guest2, ... */
  readonly name?: string;
  readonly uuid?: string;
  /** Channels of its configuration file, as libxl makes them; nobody serves them. */
  readonly channels?: readonly LibxlChannel[];
  /** Whether our agent runs in it. Default: the host's setting. */
  readonly agent?: boolean;
  /** Whether the primary console has hvc0. Default true. */
  readonly primary?: boolean;
  readonly kernelVersion?: '5.10' | '6.1';
}

export interface SimulatedDomain {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  /** What is `/` inside: its `dev`, `sys` and the agent's links. */
  readonly root: string;
  /** The socket in place of its /dev/xen/xenbus. */
  readonly storePath: string;
  readonly kernel: LinuxGuest;
  readonly agent: GuestAgent | undefined;
}

/** What happens around a restore, in the order of xl (xen:tools/xl/xl_vmcontrol.c, xl_migrate.c). */
export interface RestoreOptions {
  /** Under the new domid, while its memory comes: xenstored has not been told of it yet. */
  readonly whileBuilt?: (domid: number) => Promise<void>;
  /** Of another configuration than the one it had (`xl restore CONFIG FILE`). */
  readonly channels?: readonly LibxlChannel[];
  /** Under the new domid, when the toolstack has built everything and the guest has not gone on yet. */
  readonly beforeResume?: (domid: number) => Promise<void>;
  /**
   * As `xl migrate` to the same host: the new domain is built beside the old one, as NAME--incoming, and the old one is
   * destroyed, as NAME--migratedaway, when the new one runs. Default: save, then restore.
   */
  readonly migrate?: boolean;
}

/** A domain with what only the host needs to end it. */
export interface RunningDomain extends SimulatedDomain {
  readonly spec: Required<Pick<DomainSpec, 'name' | 'uuid'>> & DomainSpec;
  /** What runs in it, in the order in which it was started; ended in the opposite order. */
  readonly ends: (() => Promise<void>)[];
  /** The one of them that powers the kernel off. */
  readonly kernelEnd: () => Promise<void>;
}
