/**
 * Random requests, the same ones to a genuine daemon and to ours: every reply and every event must be equal. A difference
 * is cut down to the few steps that are needed and printed as a script.
 */
import type { Peer } from '../peers/peer.js';
import { seededRandom } from '../random.js';
import { type Outcome, runCase } from '../run-case.js';
import { type Case, formatCase, parseScript, type Step } from '../script.js';

export type RandomOptions = {
  readonly seed: number;
  readonly limitMs: number;
  /**
   * Whether DIRECTORY_PART is asked: oxenstored does not have it, and a transaction with a request that it does not have
   * may end with a stray EINVAL while it looks for the one to blame (xen:tools/ocaml/xenstored/process.ml,
   * judge_and_sentence).
   */
  readonly directoryPart: boolean;
  readonly startGenuine: () => Promise<Peer>;
  readonly startOurs: () => Promise<Peer>;
};

export type RandomReport = { readonly cases: number; readonly steps: number; readonly difference: string | undefined };

const STEPS_PER_CASE = 120;
/** Tries to make a difference smaller. */
const SHRINK_TRIES = 150;
const DOMAINS = [1, 2];
const ACTORS = ['dom0', 'dom0', 'dom0', 'dom0.b', 'dom0.b', 'dom1', 'dom1', 'dom2'];
const NAMES = ['a', 'b', 'c', 'd'];
const TOKENS = ['t', 'u'];

/** Writes one step at a time; knows which transactions may be open so that most numbers make sense. */
class Writer {
  readonly #random: () => number;
  readonly #directoryPart: boolean;
  readonly #open: { actor: string; name: string }[] = [];
  #started = 0;

  constructor(random: () => number, directoryPart: boolean) {
    this.#random = random;
    this.#directoryPart = directoryPart;
  }

  #pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)] as T;
  }

  #path(): string {
    const depth = 1 + Math.floor(this.#random() * 3);
    const names = Array.from({ length: depth }, () => this.#pick(NAMES)).join('/');
    const top = this.#random();
    if (top < 0.5) return `/${names}`;
    if (top < 0.65) return names;
    if (top < 0.97) return `/local/domain/${this.#pick([0, 1, 2])}/${names}`;
    return this.#pick(['/', '/local', '/tool/xenstored', '/a.b', '/a/', '//a', '""']);
  }

  #permissions(): string {
    const count = 1 + Math.floor(this.#random() * 3);
    return Array.from({ length: count }, () => `${this.#pick(['n', 'r', 'w', 'b'])}${this.#pick([0, 1, 2])}`).join(' ');
  }

  #change(): string {
    const kind = this.#random();
    if (kind < 0.5) return `WRITE ${this.#path()} ${this.#pick(['1', '2', '""', '{v*600}'])}`;
    if (kind < 0.65) return `MKDIR ${this.#path()}`;
    if (kind < 0.8) return `RM ${this.#path()}`;
    const path = this.#path();
    // A dead owner of the root takes the root with it in the genuine daemon, which then refuses everything.
    return `SET_PERMS ${path === '/' ? '/a' : path} ${this.#permissions()}`;
  }

  #look(): string {
    const last = this.#directoryPart ? 'DIRECTORY_PART' : 'DIRECTORY';
    const kind = this.#pick(['READ', 'READ', 'DIRECTORY', 'GET_PERMS', last]);
    return `${kind} ${this.#path()}${kind === 'DIRECTORY_PART' ? ' 0' : ''}`;
  }

  #watch(): string {
    const path = this.#random() < 0.15 ? this.#pick(['@releaseDomain', '@introduceDomain', '/']) : this.#path();
    return `${this.#pick(['WATCH', 'WATCH', 'UNWATCH'])} ${path} ${this.#pick(TOKENS)}`;
  }

  #transaction(): string {
    const actor = this.#pick(ACTORS);
    const mine = this.#open.filter((open) => open.actor === actor);
    if (mine.length < 2 && this.#random() < 0.4) {
      const name = `t${++this.#started}`;
      this.#open.push({ actor, name });
      return `${actor}: TRANSACTION_START as ${name}`;
    }
    const open = this.#pick(this.#open);
    if (open === undefined) return `${actor}: ${this.#change()}`;
    if (this.#random() < 0.25) {
      this.#open.splice(this.#open.indexOf(open), 1);
      return `${open.actor}: [${open.name}] TRANSACTION_END ${this.#random() < 0.8 ? 'T' : 'F'}`;
    }
    return `${open.actor}: [${open.name}] ${this.#random() < 0.6 ? this.#change() : this.#look()}`;
  }

  #forget(actors: readonly string[]): void {
    for (const open of this.#open.filter(({ actor }) => actors.includes(actor))) {
      this.#open.splice(this.#open.indexOf(open), 1);
    }
  }

  #upheaval(): string {
    const domid = this.#pick(DOMAINS);
    const kind = this.#random();
    if (kind < 0.4) {
      this.#forget([`dom${domid}`]);
      return `xen: destroy ${domid}\nxen: create ${domid}\ndom0: INTRODUCE ${domid} 1 1`;
    }
    if (kind < 0.6) {
      this.#forget(['dom0.b']);
      return 'dom0.b: close';
    }
    if (kind < 0.8) {
      const actor = this.#pick(ACTORS);
      this.#forget([actor]);
      return `${actor}: RESET_WATCHES`;
    }
    return `dom0: IS_DOMAIN_INTRODUCED ${domid}`;
  }

  /** A guest does not read while others change what it watches, more than its ring holds. */
  #silence(): string {
    const domid = this.#pick(DOMAINS);
    const changes = 5 + Math.floor(this.#random() * 50);
    const home = `/local/domain/${domid}`;
    const change = () => {
      const path = `${home}/${this.#pick(NAMES)}/${this.#pick(NAMES)}`;
      return `${this.#pick(['dom0', 'dom0.b'])}: ${this.#random() < 0.8 ? `WRITE ${path} ""` : `RM ${path}`}`;
    };
    return [
      `dom${domid}: WATCH ${home} {t*${Math.floor(this.#random() * 40) + 1}}`,
      `dom${domid}: pause`,
      ...Array.from({ length: changes }, change),
      `dom${domid}: resume`,
    ].join('\n');
  }

  /** One step, or several lines that make sense only together. */
  step(): string {
    const kind = this.#random();
    if (kind < 0.02) return `dom0: CONTROL quota ${this.#pick(DOMAINS)}`;
    if (kind < 0.025) return this.#silence();
    if (kind < 0.35) return `${this.#pick(ACTORS)}: ${this.#change()}`;
    if (kind < 0.5) return `${this.#pick(ACTORS)}: ${this.#look()}`;
    if (kind < 0.65) return `${this.#pick(ACTORS)}: ${this.#watch()}`;
    if (kind < 0.98) return this.#transaction();
    return this.#upheaval();
  }
}

function compose(lines: readonly string[]): Case {
  const script = parseScript('random', ['== random', `domains ${DOMAINS.join(' ')}`, ...lines].join('\n'));
  return script.cases[0] as Case;
}

/** A home for each domain, so that guests can do something. */
const BEGINNING = [
  // oxenstored keeps the path of its program there.
  'dom0: WRITE /tool/xenstored ""',
  ...DOMAINS.flatMap((domid) => [
    `dom0: WRITE /local/domain/${domid} ""`,
    `dom0: SET_PERMS /local/domain/${domid} n${domid}`,
  ]),
];

export function randomLines(seed: number, directoryPart: boolean): string[] {
  const writer = new Writer(seededRandom(seed), directoryPart);
  const lines = [...BEGINNING];
  while (lines.length < STEPS_PER_CASE) lines.push(writer.step());
  return lines;
}

async function outcomesOf(start: () => Promise<Peer>, test: Case): Promise<Map<Step, Outcome>> {
  const peer = await start();
  try {
    return await runCase(peer, test);
  } finally {
    await peer.close();
  }
}

/** The script as each of the two answered it, up to the first difference. */
async function compare(lines: readonly string[], options: RandomOptions): Promise<string | undefined> {
  const test = compose(lines);
  const genuine = await outcomesOf(options.startGenuine, test);
  const ours = await outcomesOf(options.startOurs, test);
  const text = (outcomes: Map<Step, Outcome>, steps: readonly Step[]) => formatCase({ ...test, steps }, outcomes);
  const at = test.steps.findIndex((step) => text(genuine, [step]) !== text(ours, [step]));
  if (at < 0) return undefined;
  const step = test.steps.slice(at, at + 1);
  return `${text(genuine, test.steps.slice(0, at + 1))}\n-- ours at the last step:\n${text(ours, step).split('\n').slice(2).join('\n')}`;
}

/** Leaves out ever smaller parts as long as there is still a difference. */
async function shrink(lines: readonly string[], found: string, options: RandomOptions): Promise<string> {
  let [best, text, tries] = [[...lines], found, 0];
  for (let part = Math.ceil(lines.length / 2); part >= 1; part = Math.floor(part / 2)) {
    for (let at = 0; at < best.length && tries < SHRINK_TRIES; ) {
      const less = [...best.slice(0, at), ...best.slice(at + part)];
      tries += 1;
      const difference = await compare(less, options).catch(() => undefined);
      if (difference === undefined) at += part;
      else [best, text] = [less, difference];
    }
  }
  return text;
}

/** Runs case after case until time is up or the two disagree. */
export async function runRandom(options: RandomOptions): Promise<RandomReport> {
  const end = Date.now() + options.limitMs;
  let [cases, steps] = [0, 0];
  while (Date.now() < end) {
    const seed = options.seed + cases;
    const lines = randomLines(seed, options.directoryPart);
    const found = await compare(lines, options);
    cases += 1;
    steps += lines.length;
    if (found !== undefined) {
      return { cases, steps, difference: `seed ${seed}:\n${await shrink(lines, found, options)}` };
    }
  }
  return { cases, steps, difference: undefined };
}
