/**
 * Reads and writes request scripts (scripts/*.txt, language in README.md). Pure text; runs nothing.
 */
import { encodeArguments, operationNumber, parseBytes, splitWords } from './notation.js';

/** One request before a transaction name is replaced by its number. */
export type Request = {
  readonly type: number;
  readonly requestId: number | undefined;
  /** A number, or the name given by `as` to an earlier TRANSACTION_START. */
  readonly transaction: string;
  /** What the header claims, when it is not the truth. */
  readonly claimedBytes: number | undefined;
  /** The transaction id of the reply gets this name. */
  readonly bind: string | undefined;
  readonly payload: (repetition: number) => Buffer;
};

export type Action =
  | { readonly kind: 'request'; readonly actor: string; readonly requests: readonly Request[]; readonly times: number }
  | { readonly kind: 'connection'; readonly actor: string; readonly verb: 'close' | 'pause' | 'resume' | 'connect' }
  | { readonly kind: 'machine'; readonly verb: string; readonly domid: number };

export type Step = {
  readonly line: number;
  readonly text: string;
  readonly action: Action;
  /** Per connection, what it receives; the acting one is under its own name. */
  readonly expected: ReadonlyMap<string, string>;
};

export type Case = {
  readonly title: string;
  readonly line: number;
  /** Domains that are introduced before the first step. */
  readonly domains: readonly number[];
  /** It is about the shared ring: over a socket, which holds much more, guests see something else. */
  readonly rings: boolean;
  readonly steps: readonly Step[];
};
export type Script = { readonly name: string; readonly lines: readonly string[]; readonly cases: readonly Case[] };

/** What an acting connection received is filed under its name, what a machine step caused under this one. */
export const MACHINE = 'xen';

function parseOne(text: string): Request {
  const words = splitWords(text);
  const bindAt = words.indexOf('as');
  const bind = bindAt > 0 ? words.splice(bindAt, 2)[1] : undefined;
  const transaction = words[0]?.startsWith('[') ? (words.shift()?.slice(1, -1) ?? '') : '0';
  const raw = words[0] === 'RAW' ? words.shift() : undefined;
  const type = operationNumber(words.shift() ?? '');
  if (raw === undefined) {
    const payload = (repetition: number) =>
      encodeArguments(
        type,
        words.map((word) => parseBytes(word, repetition)),
      );
    return { type, requestId: undefined, transaction, claimedBytes: undefined, bind, payload };
  }
  const option = (name: string) => words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
  const body = words.find((word) => word.startsWith('"')) ?? '""';
  const [requestId, claimed] = [option('req'), option('len')].map((value) =>
    value === undefined ? undefined : Number(value),
  );
  const payload = (repetition: number) => parseBytes(body, repetition);
  return { type, requestId, transaction, claimedBytes: claimed, bind, payload };
}

function parseAction(text: string): Action {
  const match = /^(?:repeat (\d+) )?([a-z0-9.]+): (.+)$/.exec(text);
  if (match === null) throw new Error(`'${text}' is no step: 'dom0: READ /a' is`);
  const [, times, actor = '', rest = ''] = match;
  if (actor === MACHINE) {
    const [verb = '', domid = '0'] = rest.split(' ');
    return { kind: 'machine', verb, domid: Number(domid) };
  }
  if (rest === 'close' || rest === 'pause' || rest === 'resume' || rest === 'connect') {
    return { kind: 'connection', actor, verb: rest };
  }
  return { kind: 'request', actor, requests: rest.split(' | ').map(parseOne), times: Number(times ?? 1) };
}

export function actorOf(action: Action): string {
  return action.kind === 'machine' ? MACHINE : action.actor;
}

function parseStep(line: number, text: string): Step {
  const [left = '', ...right] = text.split(' => ');
  const action = parseAction(left.trim());
  const expected = new Map<string, string>();
  if (right.length > 0) expected.set(actorOf(action), right.join(' => ').trim());
  return { line, text: left.trim(), action, expected };
}

export function parseScript(name: string, source: string): Script {
  const lines = source.split('\n');
  const cases: { title: string; line: number; domains: number[]; rings: boolean; steps: Step[] }[] = [];
  lines.forEach((text, index) => {
    try {
      const current = cases.at(-1);
      const other = /^ {2}([a-z0-9.]+) <= (.+)$/.exec(text);
      if (text.startsWith('== ')) {
        cases.push({ title: text.slice(3).trim(), line: index + 1, domains: [], rings: false, steps: [] });
      } else if (text.trim() === '' || text.startsWith('#')) return;
      else if (current === undefined) throw new Error('a step needs a title (== ...) above it');
      else if (text === 'rings') current.rings = true;
      else if (text.startsWith('domains ')) current.domains.push(...text.split(' ').slice(1).map(Number));
      else if (other !== null) {
        const step = current.steps.at(-1);
        if (step === undefined) throw new Error('what a connection receives needs a step above it');
        (step.expected as Map<string, string>).set(other[1] ?? '', other[2] ?? '');
      } else current.steps.push(parseStep(index + 1, text));
    } catch (error) {
      throw new Error(`${name}:${index + 1}: ${(error as Error).message}`);
    }
  });
  return { name, lines, cases };
}

/** The steps with what was received, as lines of a script. */
export function formatStep(step: Step, received: ReadonlyMap<string, string>): string[] {
  const own = actorOf(step.action);
  const first = received.get(own);
  const others = [...received].filter(([actor]) => actor !== own).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    first === undefined ? step.text : `${step.text} => ${first}`,
    ...others.map(([actor, text]) => `  ${actor} <= ${text}`),
  ];
}

/** A whole case with what was received. */
export function formatCase(test: Case, received: ReadonlyMap<Step, ReadonlyMap<string, string>>): string {
  const domains = test.domains.length > 0 ? [`domains ${test.domains.join(' ')}`] : [];
  return [
    `== ${test.title}`,
    ...domains,
    ...(test.rings ? ['rings'] : []),
    ...test.steps.flatMap((step) => formatStep(step, received.get(step) ?? new Map())),
  ].join('\n');
}

/** The script with what was received in place of what stood there; comments stay. */
export function rewriteScript(script: Script, received: ReadonlyMap<Step, ReadonlyMap<string, string>>): string {
  const steps = new Map(script.cases.flatMap((c) => c.steps).map((step) => [step.line, step]));
  return script.lines
    .flatMap((text, index) => {
      const step = steps.get(index + 1);
      if (step !== undefined) return formatStep(step, received.get(step) ?? new Map());
      return /^ {2}[a-z0-9.]+ <= /.test(text) ? [] : [text];
    })
    .join('\n');
}
