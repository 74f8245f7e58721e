/**
 * A xenstore daemon without I/O: bytes of any number of connections in, bytes out. Whoever owns the sockets is somebody
 * else.
 */
import { XenstoreError } from '../errors.js';
import { Connection } from './connection.js';
import { StoreCore } from './core.js';
import type { Domain } from './domains.js';
import { dumpTree, loadTree, type TreeDump } from './dump.js';
import { EngineClient, type EngineConnection } from './engine-client.js';
import { introduceDomain, releaseDomain, shutdownDomain } from './lifecycle.js';
import type { Likeness } from './likeness.js';
import { MessageQueue } from './message-queue.js';
import type { OxMachine } from './oxenstored/machine.js';
import { Refusal } from './oxenstored/refusal.js';
import { type Tracer, traceConnection } from './trace.js';

export interface EngineOptions {
  /** Which genuine daemon to answer like; default the C daemon of Xen 4.17. */
  readonly like?: Likeness;
  /**
   * Whether the hypervisor has a domain: only such domains can be introduced or own nodes. Without it, a domain exists
   * from `createDomain` or its introduction until it is destroyed or released.
   */
  readonly domainExists?: (domid: number) => boolean;
  /** Told of every request, event and connection. */
  readonly tracer?: Tracer;
}

/** A client that takes messages one by one, from `queue`. */
export interface QueuedConnection extends EngineConnection {
  readonly queue: MessageQueue;
  /** Something was taken out of the queue: that may be what others waited for. */
  delivered(): void;
}

/** What the owner of a queued connection does for it. */
export interface QueuedEnd {
  /** There are messages in the queue. */
  readonly onMessages: () => void;
  readonly onClosedByServer: () => void;
  readonly onHeard: () => void;
  /** Milliseconds since some fixed moment. */
  readonly now: () => number;
}

export class XenstoreEngine {
  readonly #core: StoreCore;

  constructor(options: EngineOptions = {}) {
    const { like = 'xenstored-4.17', domainExists, tracer } = options;
    this.#core = new StoreCore({ like, domainExists, tracer });
  }

  /**
   * A new client that acts as domain `domid`; 0 is a privileged socket in dom0. `send` gets whole messages, everything
   * that one chunk caused in one piece. `onClosedByServer` is called when the daemon ends the connection.
   * `tryWrite` may be asked first: it sends the first `length` bytes as far as it can without keeping any, and returns how
   * many; `send` gets the rest. `onHeard` is called when `isHeard` is true again. Throws XenstoreError ENOENT for a
   * domain that is not introduced.
   */
  connect(
    domid: number,
    send: (bytes: Buffer) => void,
    onClosedByServer: () => void,
    tryWrite?: (bytes: Buffer, length: number) => number,
    onHeard: () => void = () => {},
  ): EngineConnection {
    const domain = domid === 0 ? undefined : this.#introduced(domid);
    return this.#connect(
      new Connection(domid, domain, { send, onClosedByServer, tryWrite, onHeard, queue: undefined }),
    );
  }

  /** The ring of a domain other than dom0. Throws XenstoreError ENOENT for one that is not introduced. */
  connectQueued(domid: number, { onMessages, onClosedByServer, onHeard, now }: QueuedEnd): QueuedConnection {
    const domain = this.#introduced(domid);
    const queue = new MessageQueue({ domain, now, eventAgeMs: this.#core.rules.eventAgeMs });
    const end = { send: onMessages, onClosedByServer, onHeard, queue, tryWrite: undefined };
    return Object.assign(this.#connect(new Connection(domid, domain, end)), { queue });
  }

  #introduced(domid: number): Domain {
    const domain = this.#core.domains.introduced(domid);
    if (domain !== undefined) return domain;
    throw new XenstoreError('ENOENT', `domain ${domid} is not introduced to xenstore: it has no connection`);
  }

  #connect(connection: Connection): EngineClient {
    const core = this.#core;
    const { domain } = connection;
    connection.sequence = ++core.sequence;
    core.connections.add(connection);
    domain?.connections.add(connection);
    if (core.tracer !== undefined) traceConnection(core.tracer, 'CONNECT', connection);
    return new EngineClient(core, connection);
  }

  /** The hypervisor has a new domain: it may own nodes before it is introduced. */
  createDomain(domid: number): void {
    this.#core.domains.create(domid);
  }

  /** As INTRODUCE from the toolstack; fires `@introduceDomain`. Throws XenstoreError EINVAL for a domid that none can have. */
  introduceDomain(domid: number): void {
    const { oxenstored } = this.#core;
    if (oxenstored !== undefined) {
      introduceInOxenstored(oxenstored, domid);
      this.#core.flush();
      return;
    }
    this.#core.domains.introduceImplicitly(domid);
    if (introduceDomain(this.#core, domid) === undefined) {
      throw new XenstoreError('EINVAL', `there is no domain ${domid} to introduce to xenstore`);
    }
    this.#core.flush();
  }

  /**
   * The domain is gone from the hypervisor: its connections are closed, its nodes deleted, and `@releaseDomain` fires.
   * Harmless for a domain that is not known.
   */
  releaseDomain(domid: number): void {
    const { oxenstored } = this.#core;
    if (oxenstored !== undefined && domid !== 0) {
      oxenstored.domainEnded(domid);
      this.#core.flush();
      return;
    }
    const domain = domid === 0 ? undefined : this.#core.domains.find(domid);
    this.#core.domains.destroy(domid);
    if (domain !== undefined) releaseDomain(this.#core, domain);
    this.#core.flush();
  }

  /** The domain has shut down but still exists; fires `@releaseDomain` once until RESUME. */
  shutdownDomain(domid: number): void {
    const domain = domid === 0 ? undefined : this.#core.domains.find(domid);
    if (this.#core.oxenstored !== undefined) this.#core.oxenstored.domainShutDown(domid);
    else if (domain !== undefined) shutdownDomain(this.#core, domain);
    this.#core.flush();
  }

  isIntroduced(domid: number): boolean {
    return this.#core.domains.introduced(domid) !== undefined;
  }

  /** What the daemon says of itself in the pages it shares with domains (RingFeature). */
  get ringFeatures(): number {
    return this.#core.rules.ringFeatures;
  }

  dump(): TreeDump {
    return dumpTree(this.#core);
  }

  /** Replaces the whole tree; fires nothing. Throws XenstoreError EINVAL when the dump is unusable; then nothing changed. */
  load(dump: TreeDump): void {
    loadTree(this.#core, dump);
  }
}

function introduceInOxenstored(machine: OxMachine, domid: number): void {
  try {
    machine.introduceQuietly(domid);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    throw new XenstoreError('EINVAL', `there is no domain ${domid} to introduce to xenstore`);
  }
}
