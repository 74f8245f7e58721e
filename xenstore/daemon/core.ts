/**
 * The state that all requests share, and how messages leave: collected per connection, sent once per batch. Decides
 * nothing about nodes.
 */
import { encodeMessage, MAX_PAYLOAD_BYTES, Op } from '../wire.js';
import type { Connection } from './connection.js';
import { DomainTable, type OwnQuotas } from './domains.js';
import { type DaemonError, LIKENESS, type Likeness, type LikenessRules } from './likeness.js';
import { isHeard, lacksRoomForEvent, lacksRoomForReply } from './memory.js';
import type { Asked } from './message-queue.js';
import { NodePermissions, PRIVATE_TO_DOM0 } from './node-permissions.js';
import { OutputPool } from './output.js';
import { OxMachine } from './oxenstored/machine.js';
import { countedLength, type Path, PathCache } from './paths.js';
import { DOMID_ANY } from './permission-check.js';
import { defaultQuotas, type QuotaName, type Quotas, SOFT_MEMORY_BYTES } from './quota.js';
import type { Request } from './request.js';
import { type Tracer, traceConnection } from './trace.js';
import { StoreNode, Tree } from './tree.js';
import { type Watch, WatchIndex } from './watches.js';

export type SpecialName = '@introduceDomain' | '@releaseDomain';

export interface CoreOptions {
  readonly like: Likeness;
  /** Whether the hypervisor has this domain; without it, a domain exists once it is introduced or created. */
  readonly domainExists?: ((domid: number) => boolean) | undefined;
  readonly tracer?: Tracer | undefined;
}

const NO_BYTES = Buffer.alloc(0);

/** What is kept for a client that takes no bytes; more than that is handed on, for the owner of the socket to judge. */
const MAX_HELD_BYTES = 2 * 1024 * 1024;

export class StoreCore {
  readonly rules: LikenessRules;
  readonly tracer: Tracer | undefined;
  readonly tree = new Tree((path) => this.paths.remember(path));
  readonly watches = new WatchIndex();
  readonly domains: DomainTable;
  readonly quotas: Quotas;
  /** Above it the genuine daemon writes to syslog. */
  softMemoryBytes = SOFT_MEMORY_BYTES;
  /** The highest figures of any domain but dom0 (Xen 4.22). */
  readonly maxima = new Map<QuotaName, number>();
  /** What the daemon would trace; kept for those who ask (Xen 4.22). */
  readonly logSwitches = new Set(['obj', 'io']);
  readonly paths = new PathCache();
  readonly special: Record<SpecialName, NodePermissions>;
  readonly connections = new Set<Connection>();
  /** Order in which dom0's sockets were opened and domains introduced: the order in which the daemon serves them. */
  sequence = 0;
  /** To be done once the reply of the request being handled is queued. */
  afterReply: (() => void) | undefined;
  /** The request being handled, if a domain made it. */
  asked: Asked | undefined;
  /** Identifies one firing of watches, for the memo in each connection. */
  firing = 0;
  /** What is known only to a daemon that is like oxenstored; it has a tree of its own. */
  readonly oxenstored: OxMachine | undefined;
  readonly #dirty: Connection[] = [];
  readonly #closing: Connection[] = [];
  /** Clients that had to be told to wait. */
  readonly #unheard = new Set<Connection>();
  readonly #pool = new OutputPool();
  #flushing = false;

  constructor({ like, domainExists, tracer }: CoreOptions) {
    this.tracer = tracer;
    this.rules = LIKENESS[like];
    this.quotas = defaultQuotas(this.rules);
    this.domains = new DomainTable(domainExists, () => this.#ownQuotas());
    this.special = {
      '@introduceDomain': PRIVATE_TO_DOM0,
      '@releaseDomain': this.rules.releaseWatchableByAll
        ? new NodePermissions([...PRIVATE_TO_DOM0.entries, { access: 1, domid: DOMID_ANY, ignored: false }])
        : PRIVATE_TO_DOM0,
    };
    this.#plantInitialTree();
    this.oxenstored = like === 'oxenstored' ? new OxMachine(this) : undefined;
  }

  /** The tree of a fresh C xenstored (xen:tools/xenstore/xenstored_core.c, setup_structure). */
  #plantInitialTree(): void {
    const dom0 = this.domains.ensure(0, 0);
    const { root } = this.tree;
    const tool = new StoreNode(root, PRIVATE_TO_DOM0);
    const daemon = new StoreNode(tool, PRIVATE_TO_DOM0);
    this.tree.attach(tool, 'xenstored', daemon);
    this.tree.attach(root, 'tool', tool);
    for (const node of [root, tool, daemon]) node.generation = ++this.tree.generation;
    // Since 4.22 the special names are nodes, too.
    const specialNodes = this.rules.features ? Object.keys(this.special).length : 0;
    this.tree.generation += specialNodes;
    if (dom0 !== undefined) {
      dom0.introduced = true;
      dom0.nodes = 3 + specialNodes;
    }
  }

  #ownQuotas(): OwnQuotas | undefined {
    if (!this.rules.features) return undefined;
    return { quotas: { ...this.quotas }, softMemoryBytes: this.softMemoryBytes, maxima: this.maxima };
  }

  /** A limit for the domain behind `connection`: its own where it has one. */
  quota(connection: Connection, name: QuotaName): number {
    return connection.domain?.quotas?.[name] ?? this.quotas[name];
  }

  /** The path that `text` means to `connection`, or undefined if it is not legal. */
  resolve(connection: Connection, text: string): Path | undefined {
    const limited = this.rules.pathQuotaForAll || !connection.privileged;
    const max = this.quota(connection, 'path-max') - (this.rules.strictQuotas ? 1 : 0);
    const limit = limited ? max : Number.POSITIVE_INFINITY;
    // Most paths are absolute; '@' is left alone and then fails as a path.
    const first = text.charCodeAt(0);
    const absolute = first === 0x2f || first === 0x40 ? text : connection.base + text;
    if (this.rules.features) connection.domain?.noteMaximum('path-max', countedLength(absolute));
    return this.paths.get(absolute, limit);
  }

  /** A reply; `text` is latin-1. */
  reply(request: Request, text: string): void {
    const { connection } = request;
    if (text.length > MAX_PAYLOAD_BYTES && this.#isLimited(connection)) this.error(request, 'E2BIG');
    else if (connection.domain !== undefined && lacksRoomForReply(this, connection, text.length)) {
      this.error(request, 'ENOMEM');
    } else this.#message(connection, request.type, request.id, request.transactionId, text);
  }

  acknowledge(request: Request): void {
    this.#message(request.connection, request.type, request.id, request.transactionId, 'OK\0');
  }

  error(request: Request, name: DaemonError): void {
    request.error = name;
    this.#message(request.connection, Op.Error, request.id, request.transactionId, `${name}\0`);
  }

  #message(connection: Connection, type: number, id: number, transactionId: number, text: string): void {
    const { queue } = connection;
    if (queue === undefined) this.#outputOf(connection).message(type, id, transactionId, text);
    else {
      this.#enqueue(connection);
      queue.reply(encodeMessage(type, id, transactionId, Buffer.from(text, 'latin1')), this.asked);
    }
  }

  /**
   * Tells a watcher; `changed` is the absolute path, `asked` the request of a domain that is to blame. An event that is
   * equal to one not yet sent is left out.
   */
  event(watch: Watch, changed: string, asked?: Asked): void {
    const { connection, token, hiddenBytes } = watch;
    const path = hiddenBytes === 0 ? changed : changed.slice(hiddenBytes);
    if (connection.closed) return;
    const payloadBytes = path.length + token.length + 2;
    if (payloadBytes > MAX_PAYLOAD_BYTES && this.#isLimited(connection)) {
      // oxenstored has the watcher find an error that answers nothing.
      if (this.oxenstored !== undefined) this.#message(connection, Op.Error, 0, 0, 'E2BIG\0');
      return;
    }
    if (this.rules.equalEventsOnce && !path.startsWith('@') && isPending(connection, path, token)) return;
    if (connection.domain !== undefined && lacksRoomForEvent(this, connection, payloadBytes)) {
      if (connection.queue !== undefined) connection.queue.droppedEvents++;
      return;
    }
    if (this.tracer !== undefined) traceConnection(this.tracer, 'WATCH_EVENT', connection, path, token);
    if (connection.queue !== undefined) {
      this.#enqueue(connection);
      connection.queue.event(encodeMessage(Op.WatchEvent, 0, 0, Buffer.from(`${path}\0${token}\0`, 'latin1')), asked);
      return;
    }
    this.#outputOf(connection).event(Op.WatchEvent, path, token);
    if (asked === undefined) return;
    asked.caused();
    connection.causes.push(asked);
  }

  /** oxenstored sends longer messages where they are not for a ring. */
  #isLimited({ domid }: Connection): boolean {
    return this.oxenstored === undefined || domid !== 0;
  }

  #outputOf(connection: Connection) {
    this.#enqueue(connection);
    connection.output ??= this.#pool.get();
    return connection.output;
  }

  #enqueue(connection: Connection): void {
    if (connection.queued) return;
    connection.queued = true;
    this.#dirty.push(connection);
  }

  /** The client takes bytes again: what was kept for it is sent. */
  release(connection: Connection): void {
    connection.held = false;
    if (connection.output === undefined) settle(connection);
    else this.#enqueue(connection);
    this.flush();
  }

  /** Whether requests of the client are to be read; if not, it hears when that has changed. */
  isHeard(connection: Connection): boolean {
    if (isHeard(this, connection)) return true;
    this.#unheard.add(connection);
    return false;
  }

  /** Have the owner of the connection told, after what was collected for it is sent. */
  closeAfterFlush(connection: Connection): void {
    this.#closing.push(connection);
  }

  /** Forgets what was collected and not sent. */
  discardOutput(connection: Connection): void {
    connection.output?.discard();
    connection.pendingEvents.clear();
    connection.queue?.clear();
    settle(connection);
  }

  /** Sends what the batch collected. A receiver may call back into the engine: its turn comes after this one. */
  flush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    try {
      do {
        while (this.#dirty.length > 0 || this.#closing.length > 0) {
          const connection = this.#dirty.shift();
          if (connection !== undefined) this.#sendOutput(connection);
          else this.#closing.shift()?.onClosedByServer();
        }
      } while (this.#unheard.size > 0 && this.#hearAgain());
    } finally {
      this.#flushing = false;
    }
  }

  /** Whether there was anybody. */
  #hearAgain(): boolean {
    const heard = [...this.#unheard].filter((connection) => connection.closed || isHeard(this, connection));
    for (const connection of heard) {
      this.#unheard.delete(connection);
      if (!connection.closed) connection.onHeard();
    }
    return heard.length > 0;
  }

  #sendOutput(connection: Connection): void {
    connection.queued = false;
    const { output } = connection;
    if (connection.queue !== undefined) connection.send(NO_BYTES);
    if (output === undefined) return;
    if (connection.held && output.length <= MAX_HELD_BYTES) return;
    connection.output = undefined;
    if (connection.pendingEvents.size > 0) connection.pendingEvents.clear();
    const written = connection.tryWrite === undefined || output.length === 0 ? 0 : output.offer(connection.tryWrite);
    const bytes = output.length > written ? output.take(written) : undefined;
    this.#pool.put(output);
    if (bytes !== undefined) connection.send(bytes);
    // What its socket has taken counts as delivered, unless it has to wait for space.
    if (!connection.held) settle(connection);
  }
}

/** Whether an equal event waits; if not, it is noted. */
function isPending({ queue, pendingEvents }: Connection, path: string, token: string): boolean {
  if (queue !== undefined) return queue.has(`${path}\0${token}`);
  const tokens = pendingEvents.get(path);
  if (tokens === undefined) pendingEvents.set(path, new Set([token]));
  else if (tokens.has(token)) return true;
  else tokens.add(token);
  return false;
}

/** Everything that was for the client has been delivered, or never will be. */
function settle(connection: Connection): void {
  if (connection.causes.length === 0) return;
  for (const asked of connection.causes) asked.eventDelivered();
  connection.causes = [];
}
