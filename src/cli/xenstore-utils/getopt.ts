/** Options as GNU getopt_long reads them for the xenstore utilities, complaints included. Decides nothing else. */

export type Flag = 'h' | 'f' | 's' | 'p' | 't' | 'u' | 'r' | 'n' | 'R';

const LONG: ReadonlyArray<readonly [name: string, flag: Flag]> = [
  ['help', 'h'],
  ['flat', 'f'],
  ['prefix', 'p'],
  ['tidy', 't'],
  ['upto', 'u'],
  ['recurse', 'r'],
  ['number', 'n'],
  ['raw', 'R'],
];
/** `-s` has no long form and, since sockets are looked for first, no effect. */
const FLAGS: ReadonlySet<string> = new Set(['s', ...LONG.map(([, flag]) => flag)]);

export interface Option {
  readonly flag: Flag;
  /** Only of `n`. */
  readonly argument?: string;
}

export interface Parsed {
  /** In the order in which they stood; an option that is wrong is complained about and left out. */
  readonly options: readonly Option[];
  readonly operands: readonly string[];
  /** Sentences for stderr. */
  readonly complaints: readonly string[];
}

/** `words` without the mode itself. */
export function getopt(words: readonly string[]): Parsed {
  const options: Option[] = [];
  const operands: string[] = [];
  const complaints: string[] = [];
  const rest = [...words];
  const take = (): string | undefined => rest.shift();
  for (let word = take(); word !== undefined; word = take()) {
    if (word === '--') {
      operands.push(...rest);
      break;
    }
    const outcome = word.startsWith('--')
      ? longOption(word.slice(2), take)
      : word.length > 1 && word.startsWith('-')
        ? shortOptions(word.slice(1), take)
        : undefined;
    if (outcome === undefined) operands.push(word);
    else {
      options.push(...outcome.options);
      complaints.push(...outcome.complaints);
    }
  }
  return { options, operands, complaints };
}

type Outcome = Pick<Parsed, 'options' | 'complaints'>;

function longOption(text: string, take: () => string | undefined): Outcome {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  const complain = (complaint: string): Outcome => ({ options: [], complaints: [complaint] });
  const exact = LONG.filter(([known]) => known === name);
  const matching = exact.length > 0 ? exact : LONG.filter(([known]) => known.startsWith(name));
  const [found] = matching;
  if (found === undefined) return complain(`unrecognized option '--${text}'`);
  if (matching.length > 1) {
    const possibilities = matching.map(([known]) => ` '--${known}'`).join('');
    return complain(`option '--${name}' is ambiguous; possibilities:${possibilities}`);
  }
  const [known, flag] = found;
  if (flag !== 'n') {
    return equals < 0
      ? { options: [{ flag }], complaints: [] }
      : complain(`option '--${known}' doesn't allow an argument`);
  }
  const argument = equals < 0 ? take() : text.slice(equals + 1);
  if (argument === undefined) return complain(`option '--${known}' requires an argument`);
  return { options: [{ flag, argument }], complaints: [] };
}

/** `-fp`, `-n3`, `-n 3`. */
function shortOptions(text: string, take: () => string | undefined): Outcome {
  const options: Option[] = [];
  const complaints: string[] = [];
  for (let at = 0; at < text.length; at++) {
    const letter = text.charAt(at);
    if (!FLAGS.has(letter)) complaints.push(`invalid option -- '${letter}'`);
    else if (letter !== 'n') options.push({ flag: letter as Flag });
    else {
      const argument = at + 1 < text.length ? text.slice(at + 1) : take();
      if (argument === undefined) complaints.push("option requires an argument -- 'n'");
      else options.push({ flag: 'n', argument });
      break;
    }
  }
  return { options, complaints };
}
