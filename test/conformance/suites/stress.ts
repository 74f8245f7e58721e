/**
 * Fifty clients of our daemon at random, guests that die in the middle of transactions and come back under their number,
 * against a model that is too simple to share a mistake: a map of paths. Memory must stay flat.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { XenstoreEngine } from '../../../xenstore/daemon/engine.js';
import type { Likeness } from '../../../xenstore/daemon/likeness.js';
import { Op } from '../../../xenstore/wire.js';
import { seededRandom } from '../random.js';
import { Client, type Open } from './stress-client.js';
import { bytesByOwner } from './stress-memory.js';
import { Model } from './stress-model.js';

export type StressOptions = { readonly like: Likeness; readonly seed: number; readonly limitMs: number };
export type StressReport = {
  readonly requests: number;
  readonly deaths: number;
  readonly commits: number;
  readonly conflicts: number;
  /** Growth of the resident set in the second half. */
  readonly kibPerSecond: number;
  readonly grownMib: number;
  readonly difference: string | undefined;
};

const CLIENTS = 50;
const GUESTS = 20;
const NAMES = ['a', 'b', 'c', 'd'];
const SHARED = '/shared';
/** Requests between two looks at clock and memory. */
const ROUND = 2_000;
const MAX_GROWTH_MIB = 48;
const SAMPLE_MS = 500;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

class Difference extends Error {}

class Stress {
  readonly #random: () => number;
  readonly #engine: XenstoreEngine;
  readonly #like: Likeness;
  readonly #clients: Client[] = [];
  #model: Model;
  requests = 0;
  deaths = 0;
  commits = 0;
  conflicts = 0;

  constructor({ like, seed }: StressOptions) {
    this.#random = seededRandom(seed);
    this.#like = like;
    this.#engine = new XenstoreEngine({ like });
    this.#model = new Model(like !== 'oxenstored');
    const first = new Client(this.#engine, 0);
    this.#clients.push(first);
    this.#model.nodes.set(SHARED, { value: '', owner: 0 });
    this.#expect('WRITE', first.ask(Op.Write, `${SHARED}\0`), 'OK\0');
    this.#expect('SET_PERMS', first.ask(Op.SetPerms, `${SHARED}\0b0\0`), 'OK\0');
    for (let i = 1; i <= GUESTS; i++) this.#clients.push(this.#arrive(i));
    while (this.#clients.length < CLIENTS) this.#clients.push(new Client(this.#engine, 0));
  }

  #expect(what: string, found: string, ...allowed: (string | undefined)[]): string {
    this.requests++;
    if (!allowed.includes(found)) {
      const text = allowed.map((one) => JSON.stringify(one)).join(' or ');
      throw new Difference(`request ${this.requests}, ${what}: ${JSON.stringify(found)}, expected ${text}`);
    }
    return found;
  }

  #arrive(domid: number): Client {
    const first = this.#clients[0] as Client;
    this.#expect('INTRODUCE', first.ask(Op.Introduce, `${domid}\x001\x001\0`), 'OK\0');
    const home = `/local/domain/${domid}`;
    this.#expect('WRITE', first.ask(Op.Write, `${home}\0`), 'OK\0');
    this.#expect('SET_PERMS', first.ask(Op.SetPerms, `${home}\0n${domid}\0`), 'OK\0');
    this.#model.nodes.set(home, { value: '', owner: domid });
    return new Client(this.#engine, domid);
  }

  #pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)] as T;
  }

  #path(client: Client): string {
    const base = client.domid !== 0 && this.#random() < 0.4 ? `/local/domain/${client.domid}` : SHARED;
    const depth = 1 + Math.floor(this.#random() * 3);
    return `${base}/${Array.from({ length: depth }, () => this.#pick(NAMES)).join('/')}`;
  }

  step(): void {
    const client = this.#pick(this.#clients);
    const kind = this.#random();
    if (kind < 0.01) this.#upheaval();
    else if (kind < 0.06) this.#watch(client);
    else if (kind < 0.11) this.#pry(client);
    else if (kind < 0.45) this.#change(client);
    else if (kind < 0.6) this.#look(client);
    else this.#transaction(client);
  }

  /** A guest dies, with all that it had under way, and its number is used again; or a socket goes. */
  #upheaval(): void {
    const at = 1 + Math.floor(this.#random() * (CLIENTS - 1));
    const old = this.#clients[at] as Client;
    if (old.domid === 0) {
      old.close();
      this.#clients[at] = new Client(this.#engine, 0);
      return;
    }
    this.deaths++;
    if (this.#random() < 0.5) {
      this.#expect('RELEASE', (this.#clients[0] as Client).ask(Op.Release, `${old.domid}\0`), 'OK\0');
    } else this.#engine.releaseDomain(old.domid);
    this.#model.forget(old.domid);
    this.#clients[at] = this.#arrive(old.domid);
  }

  #watch(client: Client): void {
    const path = this.#path(client);
    const known = client.watched.has(path);
    const answer = client.ask(known ? Op.Unwatch : Op.Watch, `${path}\0t\0`);
    this.#expect('WATCH', answer, 'OK\0');
    if (known) client.watched.delete(path);
    else client.watched.add(path);
    client.events = [];
  }

  /** Another guest's home. */
  #pry(client: Client): void {
    if (client.domid === 0) return;
    const other = 1 + ((client.domid + Math.floor(this.#random() * (GUESTS - 1))) % GUESTS);
    if (other === client.domid) return;
    const type = this.#pick([Op.Read, Op.Directory, Op.Rm, Op.Mkdir]);
    const path = `/local/domain/${other}/a`;
    // oxenstored looks at no permission where there is nothing to remove.
    const harmless = this.#like === 'oxenstored' && type === Op.Rm && !this.#model.nodes.has(path) ? 'OK\0' : undefined;
    this.#expect('prying', client.ask(type, `${path}\0`), '!EACCES', '!ENOENT', harmless);
  }

  #change(client: Client): void {
    for (const other of this.#clients) {
      other.take();
      other.events = [];
    }
    const path = this.#path(client);
    if (this.#random() < 0.75) {
      const value = String(Math.floor(this.#random() * 1000));
      this.#expect(`WRITE ${path}`, client.ask(Op.Write, `${path}\0${value}`), 'OK\0');
      this.#model.write(path, value, client.domid);
      this.#heard(path);
    } else {
      const answer = this.#removalAnswer(this.#model, path);
      const known = this.#model.nodes.has(path);
      this.#expect(`RM ${path}`, client.ask(Op.Rm, `${path}\0`), answer);
      this.#model.remove(path);
      if (known) this.#heard(path);
    }
  }

  #removalAnswer(model: Model, path: string): string {
    return model.nodes.has(path.slice(0, path.lastIndexOf('/'))) ? 'OK\0' : '!ENOENT';
  }

  /** Everyone who watches it has been told once for each watch, nobody else of anything else there. */
  #heard(path: string): void {
    for (const client of this.#clients) {
      const spare = client.take();
      if (spare !== undefined) throw new Difference(`domain ${client.domid} got an answer to nothing`);
      const expected = [...client.watched].filter((top) => path === top || path.startsWith(`${top}/`)).length;
      const heard = client.events.filter((event) => event === path).length;
      // Equal events are sent once: all watches of a client have the same token.
      if (heard === 0 ? expected !== 0 : heard > expected || expected === 0) {
        throw new Difference(`domain ${client.domid} heard ${heard} times of ${path}, expected ${expected}`);
      }
    }
  }

  #look(client: Client): void {
    const path = this.#path(client);
    if (this.#random() < 0.7) {
      const value = this.#model.nodes.get(path)?.value ?? '!ENOENT';
      this.#expect(`READ ${path}`, client.ask(Op.Read, `${path}\0`), value);
    } else {
      const names = this.#model.list(path) ?? '!ENOENT';
      this.#expect(`DIRECTORY ${path}`, listed(client.ask(Op.Directory, `${path}\0`)), names);
    }
  }

  #transaction(client: Client): void {
    if (client.open.length < 3 && this.#random() < 0.2) {
      const id = Number.parseInt(client.ask(Op.TransactionStart, '\0'), 10);
      if (!(id > 0)) throw new Difference(`TRANSACTION_START of domain ${client.domid} was refused`);
      client.open.push({ id, view: this.#model.copy(), steps: [], wrote: false });
      return;
    }
    const open = this.#pick(client.open);
    if (open === undefined) return;
    // Long ones never succeed among fifty.
    for (let steps = Math.floor(this.#random() * 5); steps >= 0; steps--) {
      if (this.#random() < 0.5) this.#changeIn(client, open);
      else this.#lookIn(client, open);
    }
    if (this.#random() < 0.6) this.#end(client, open);
  }

  #took(open: Open, effect: boolean, take: (tree: Model) => boolean): void {
    const same = take(open.view);
    // oxenstored shows a transaction the tree as it was at its start.
    if (!same && this.#like === 'oxenstored') throw new Difference('a transaction saw what others did meanwhile');
    open.steps.push({ take, effect });
  }

  #changeIn(client: Client, open: Open): void {
    const path = this.#path(client);
    const { domid } = client;
    open.wrote = true;
    if (this.#random() < 0.7) {
      const value = String(Math.floor(this.#random() * 1000));
      this.#expect('WRITE in a transaction', client.ask(Op.Write, `${path}\0${value}`, open.id), 'OK\0');
      this.#took(open, true, (model) => {
        model.write(path, value, domid);
        return true;
      });
      return;
    }
    const answer = client.ask(Op.Rm, `${path}\0`, open.id);
    // What the C daemon finds half removed outside cannot be committed.
    const broken = this.#like === 'oxenstored' ? [] : ['!EIO', '!EINVAL'];
    this.#expect('RM in a transaction', answer, 'OK\0', '!ENOENT', ...broken);
    this.#took(open, open.view.nodes.has(path), (model) => {
      if (this.#removalAnswer(model, path) !== answer) return false;
      model.remove(path);
      return true;
    });
  }

  #lookIn(client: Client, open: Open): void {
    const path = this.#path(client);
    const answer = client.ask(Op.Read, `${path}\0`, open.id);
    this.#took(open, answer !== '!ENOENT', (model) => (model.nodes.get(path)?.value ?? '!ENOENT') === answer);
  }

  /** One that succeeds must have the answers, and the effect, of the same requests made now without pause. */
  #end(client: Client, open: Open): void {
    client.open.splice(client.open.indexOf(open), 1);
    const how = this.#random() < 0.9 ? 'T' : 'F';
    const answer = client.ask(Op.TransactionEnd, `${how}\0`, open.id);
    this.#expect('TRANSACTION_END', answer, 'OK\0', how === 'T' ? '!EAGAIN' : undefined);
    if (answer === '!EAGAIN') {
      this.conflicts++;
      const tried = this.#model.copy();
      const isNeeded = this.#like !== 'oxenstored' || !open.steps.every(({ take }) => take(tried));
      if (!isNeeded) throw new Difference('EAGAIN, although every answer would be the same');
      return;
    }
    if (how === 'F') return;
    this.commits++;
    const again = this.#model.copy();
    if (open.steps.every(({ take }) => take(again)) && (this.#like !== 'oxenstored' || this.#isActual(again))) {
      this.#model = again;
    } else if (this.#like !== 'oxenstored') throw new Difference('committed after a conflict');
    else this.#merge(open);
  }

  /** oxenstored forgets requests that found nothing, and does not ask again what others cannot have touched. */
  #merge(open: Open): void {
    const merged = this.#model.copy();
    const effective = open.steps.filter(({ effect }) => effect);
    if (effective.every(({ take }) => take(merged)) && this.#isActual(merged)) this.#model = merged;
    // One that changed nothing ends well whatever it saw.
    else if (!this.#isActual(this.#model)) throw new Difference('committed after a conflict');
  }

  #isActual(model: Model): boolean {
    const found = this.#dump();
    if (found.size !== model.nodes.size) return false;
    return [...model.nodes].every(([path, { value, owner }]) => found.get(path) === `${value} ${owner}`);
  }

  #dump(): Map<string, string> {
    const { nodes } = this.#engine.dump();
    const reachable = nodes.filter(({ path }) => path.startsWith(SHARED) || /^\/local\/domain\/\d+/.test(path));
    return new Map(reachable.map(({ path, value, permissions }) => [path, `${value} ${permissions[0]?.slice(1)}`]));
  }

  /** The whole tree is as the model has it. */
  verify(): void {
    const found = this.#dump();
    for (const [path, { value, owner }] of this.#model.nodes) {
      this.#expect(`the node ${path}`, found.get(path) ?? 'nothing', `${value} ${owner}`);
    }
    if (found.size !== this.#model.nodes.size)
      throw new Difference(`${found.size} nodes, not ${this.#model.nodes.size}`);
  }

  /** What guests are said to have in memory is what their nodes take, once watches and transactions are gone. */
  verifyMemory(): void {
    if (this.#like === 'oxenstored') return;
    for (const client of this.#clients) {
      client.ask(Op.ResetWatches, '\0');
      client.take();
      client.watched.clear();
      client.open.length = 0;
    }
    const bytes = bytesByOwner(this.#engine.dump(), this.#like === 'xenstored' ? 16 : 24);
    for (let domid = 1; domid <= GUESTS; domid++) {
      const figures = (this.#clients[0] as Client).ask(Op.Control, `quota\0${domid}\0`);
      const [, memory = 'nothing'] = /^memory *: *(\d+)/m.exec(figures) ?? [];
      this.#expect(`memory of domain ${domid}`, memory, String(bytes.get(domid) ?? 0));
    }
  }
}

function listed(answer: string): string {
  return answer.startsWith('!') ? answer : answer.split('\0').slice(0, -1).sort().join(' ');
}

/** What stays when everything that is not needed was thrown away, in KiB. */
function residentKib(): number {
  collectGarbage();
  return process.memoryUsage.rss() / 1024;
}

/** Least squares. */
function slope(points: readonly (readonly [seconds: number, kib: number])[]): number {
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / points.length;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / points.length;
  const over = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  const under = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  return under === 0 ? 0 : over / under;
}

export async function runStress(options: StressOptions): Promise<StressReport> {
  const start = performance.now();
  const stress = new Stress(options);
  const memory: (readonly [number, number])[] = [];
  let difference: string | undefined;
  let sampledMs = 0;
  try {
    for (let elapsedMs = 0; elapsedMs < options.limitMs; elapsedMs = performance.now() - start) {
      for (let i = 0; i < ROUND; i++) stress.step();
      stress.verify();
      if (elapsedMs > options.limitMs / 2 && elapsedMs - sampledMs >= SAMPLE_MS) {
        sampledMs = elapsedMs;
        memory.push([elapsedMs / 1000, residentKib()]);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    stress.verifyMemory();
  } catch (error) {
    if (!(error instanceof Difference)) throw error;
    difference = `like ${options.like}, seed ${options.seed}: ${error.message}`;
  }
  const { requests, deaths, commits, conflicts } = stress;
  const kibPerSecond = slope(memory);
  const grownMib = (kibPerSecond * options.limitMs) / 2 / 1000 / 1024;
  if (difference === undefined && grownMib > MAX_GROWTH_MIB) {
    difference = `memory grew by ${grownMib.toFixed(0)} MiB in the second half, ${MAX_GROWTH_MIB} are allowed`;
  }
  return { requests, deaths, commits, conflicts, kibPerSecond, grownMib, difference };
}
