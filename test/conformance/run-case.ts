/**
 * Runs one case of a script against a daemon and reports, step by step, what each connection received. Judges nothing.
 */
import { MAX_PAYLOAD_BYTES, Op } from '../../xenstore/wire.js';
import { Connection } from './connection.js';
import { foldOutcome, formatMessage, type Received } from './notation.js';
import type { MachineVerb, Peer } from './peers/peer.js';
import { type Action, actorOf, type Case, MACHINE, type Request, type Step } from './script.js';

/** A daemon that has not answered an odd request by then never will. */
const ODD_ANSWER_LIMIT_MS = 4_000;
/** A loaded machine may take this long for what must come. */
const ANSWER_LIMIT_MS = 10_000;
/** Round trips after which a daemon has certainly seen what happened before on its other inputs. */
const NOTICE_ROUNDS = 3;

export type RunOptions = {
  /** How each message is cut into pieces on its way to the daemon. */
  readonly split?: (bytes: Buffer) => Buffer[];
};

export type Outcome = ReadonlyMap<string, string>;

/** Such requests are answered by some daemons and not by others. */
function isOdd({ payload, claimedBytes = payload.length }: Received & { claimedBytes?: number | undefined }): boolean {
  return claimedBytes > payload.length || payload.length > MAX_PAYLOAD_BYTES || payload.length === 0;
}

class CaseRun {
  readonly #peer: Peer;
  readonly #options: RunOptions;
  readonly #connections = new Map<string, Connection>();
  readonly #transactions = new Map<string, number>();
  readonly #generations = new Map<string, string>();
  /** What paused connections have asked. */
  readonly #unanswered = new Map<Connection, Received[]>();
  #control: Connection | undefined;
  #requestId = 0;

  constructor(peer: Peer, options: RunOptions) {
    this.#peer = peer;
    this.#options = options;
  }

  async #controlConnection(): Promise<Connection> {
    this.#control ??= new Connection(await this.#peer.connect());
    return this.#control;
  }

  /** Creates and introduces the domains that the case takes for granted. */
  async introduce(domids: readonly number[]): Promise<void> {
    const control = await this.#controlConnection();
    for (const domid of domids) {
      await this.#peer.machine('create', domid);
      const payload = Buffer.from(`${domid}\0${domid}\0${domid}\0`);
      control.send([{ type: Op.Introduce, requestId: 1, transactionId: 0, payload }]);
      await control.replies(1, ANSWER_LIMIT_MS);
      const reply = control.take()[0];
      if (reply?.type !== Op.Introduce) throw new Error(`${this.#peer.name} did not introduce domain ${domid}`);
    }
  }

  async #connection(actor: string): Promise<Connection> {
    const known = this.#connections.get(actor);
    if (known !== undefined) return known;
    const domid = Number(/^dom(\d+)/.exec(actor)?.[1]);
    if (Number.isNaN(domid)) throw new Error(`'${actor}' is no connection: dom0, dom0.b or dom1 is`);
    const wire = await (domid === 0 ? this.#peer.connect() : this.#peer.connectDomain(domid));
    const connection = new Connection(wire, this.#options.split);
    this.#connections.set(actor, connection);
    return connection;
  }

  #message(request: Request, repetition: number): Received & { claimedBytes: number | undefined } {
    this.#requestId += 1;
    const named = this.#transactions.get(request.transaction) ?? Number(request.transaction);
    return {
      type: request.type,
      requestId: request.requestId ?? this.#requestId,
      transactionId: named,
      claimedBytes: request.claimedBytes,
      payload: request.payload(repetition),
    };
  }

  /** DIRECTORY_PART begins with an opaque generation number: G1, G2... in order of appearance, so that it can be compared. */
  #nameGeneration(message: Received): Received {
    const end = message.payload.indexOf(0);
    if (message.type !== Op.DirectoryPart || end < 1) return message;
    const number = message.payload.toString('latin1', 0, end);
    const name = this.#generations.get(number) ?? `G${this.#generations.size + 1}`;
    this.#generations.set(number, name);
    return { ...message, payload: Buffer.concat([Buffer.from(name), message.payload.subarray(end)]) };
  }

  #format(messages: readonly Received[], requests: readonly Received[]): string[] {
    let answered = 0;
    return messages.map((message) => {
      const request = message.type === Op.WatchEvent ? undefined : requests[answered++];
      return formatMessage(this.#nameGeneration(message), request);
    });
  }

  async #request(action: Extract<Action, { kind: 'request' }>, silenceExpected: boolean): Promise<string> {
    const connection = await this.#connection(action.actor);
    if (connection.paused) return this.#requestUnheard(action, connection);
    const items: string[] = [];
    for (let repetition = 1; repetition <= action.times; repetition++) {
      const messages = action.requests.map((request) => this.#message(request, repetition));
      connection.send(messages);
      const limit = silenceExpected
        ? this.#peer.silenceMs
        : messages.some(isOdd)
          ? ODD_ANSWER_LIMIT_MS
          : ANSWER_LIMIT_MS;
      let ended = await connection.replies(messages.length, limit);
      if (ended === 'answered' && repetition === action.times) ended = await connection.settle(limit);
      const received = connection.take();
      this.#bind(action.requests, received);
      this.#dropReleased(messages, received);
      items.push(...this.#format(received, messages));
      if (ended !== 'answered') {
        items.push(ended);
        this.#abandon(action.actor, connection);
        break;
      }
    }
    return foldOutcome(items);
  }

  /** The answers come when the connection goes on; until then the daemon does as much as it will. */
  async #requestUnheard(action: Extract<Action, { kind: 'request' }>, connection: Connection): Promise<string> {
    const asked = this.#unanswered.get(connection) ?? [];
    this.#unanswered.set(connection, asked);
    for (let repetition = 1; repetition <= action.times; repetition++) {
      const messages = action.requests.map((request) => this.#message(request, repetition));
      connection.send(messages);
      asked.push(...messages);
    }
    await new Promise((resolve) => setTimeout(resolve, this.#peer.silenceMs));
    await this.#settleControl();
    return foldOutcome([]);
  }

  #bind(requests: readonly Request[], received: readonly Received[]): void {
    const replies = received.filter(({ type }) => type !== Op.WatchEvent);
    requests.forEach(({ bind }, index) => {
      if (bind !== undefined)
        this.#transactions.set(bind, Number.parseInt(replies[index]?.payload.toString() ?? '', 10));
    });
  }

  /** A connection that went silent is of no further use; dom0 can make a new one at its next step, a guest cannot. */
  #abandon(actor: string, connection: Connection): void {
    connection.close();
    if (actor.startsWith('dom0')) this.#connections.delete(actor);
  }

  #dropReleased(requests: readonly Received[], received: readonly Received[]): void {
    const replies = received.filter(({ type }) => type !== Op.WatchEvent);
    requests.forEach(({ type, payload }, index) => {
      if (type === Op.Release && replies[index]?.type === Op.Release)
        this.#drop(Number.parseInt(payload.toString(), 10));
    });
  }

  async #changeConnection({ actor, verb }: Extract<Action, { kind: 'connection' }>): Promise<void> {
    const connection = await this.#connection(actor);
    if (verb === 'close') {
      connection.close();
      this.#connections.delete(actor);
    } else if (verb === 'pause') connection.pause();
    else if (verb === 'resume') connection.resume();
    await this.#settleControl();
  }

  async #machineStep(verb: string, domid: number): Promise<void> {
    if (verb === 'destroy') this.#drop(domid);
    await this.#peer.machine(verb as MachineVerb, domid);
    await this.#settleControl();
  }

  /** The domain's connection is of no use any more; how its end looks depends on the transport. */
  #drop(domid: number): void {
    this.#connections.get(`dom${domid}`)?.close();
    this.#connections.delete(`dom${domid}`);
  }

  async #settleControl(): Promise<void> {
    const control = await this.#controlConnection();
    for (let round = 0; round < NOTICE_ROUNDS; round++) await control.settle(ANSWER_LIMIT_MS);
  }

  async step(step: Step): Promise<Outcome> {
    const { action } = step;
    const own = actorOf(action);
    const outcome = new Map<string, string>();
    if (action.kind === 'request')
      outcome.set(own, await this.#request(action, step.expected.get(own)?.endsWith('silence') ?? false));
    else if (action.kind === 'machine') await this.#machineStep(action.verb, action.domid);
    else await this.#changeConnection(action);
    for (const [actor, connection] of this.#connections) {
      if ((actor === own && action.kind === 'request') || connection.paused) continue;
      if (connection.closed) continue;
      const ended = await connection.settle(actor.startsWith('dom0') ? ANSWER_LIMIT_MS : ODD_ANSWER_LIMIT_MS);
      const items = this.#format(connection.take(), this.#unanswered.get(connection) ?? []);
      this.#unanswered.delete(connection);
      // A domain whose connection the daemon dropped hears nothing more; how that looks depends on the transport.
      if (ended !== 'answered' && actor.startsWith('dom0')) items.push(ended);
      if (ended !== 'answered') connection.close();
      if (items.length > 0) outcome.set(actor, foldOutcome(items));
    }
    return outcome;
  }

  close(): void {
    for (const connection of this.#connections.values()) connection.close();
    this.#control?.close();
  }
}

/** Domains that a case uses before it creates them, and those that it asks for. */
function impliedDomains(test: Case): number[] {
  const created = new Set<number>();
  const implied = new Set(test.domains);
  for (const { action } of test.steps) {
    const domid = action.kind === 'machine' ? action.domid : Number(/^dom(\d+)/.exec(action.actor)?.[1]);
    if (action.kind === 'machine' && action.verb === 'create') created.add(domid);
    else if (domid > 0 && !created.has(domid)) implied.add(domid);
  }
  return [...implied].sort((a, b) => a - b);
}

export async function runCase(peer: Peer, test: Case, options: RunOptions = {}): Promise<Map<Step, Outcome>> {
  const run = new CaseRun(peer, options);
  const outcomes = new Map<Step, Outcome>();
  try {
    await run.introduce(impliedDomains(test));
    for (const step of test.steps) outcomes.set(step, await run.step(step));
  } finally {
    run.close();
  }
  return outcomes;
}

/** The steps in which a case went otherwise than it is written, as text; undefined if there are none. */
export function describeDifference(test: Case, outcomes: ReadonlyMap<Step, Outcome>): string | undefined {
  const lines = test.steps.flatMap((step) => {
    const received = outcomes.get(step) ?? new Map<string, string>();
    return [...new Set([...step.expected.keys(), ...received.keys()])]
      .filter((actor) => (step.expected.get(actor) ?? 'nothing') !== (received.get(actor) ?? 'nothing'))
      .map((actor) => {
        const who = actor === actorOf(step.action) || actor === MACHINE ? '' : ` (at ${actor})`;
        return `  line ${step.line}: ${step.text}${who}\n    expected ${step.expected.get(actor) ?? 'nothing'}\n    received ${received.get(actor) ?? 'nothing'}`;
      });
  });
  return lines.length === 0 ? undefined : lines.join('\n');
}
