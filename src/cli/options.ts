/** Values of command-line options: text in, checked numbers out. What commander throws for them exits with 2. */
import { InvalidArgumentError } from 'commander';

/** The longest wait that makes sense; also keeps timers within what Node can count. */
const MAX_SECONDS = 24 * 60 * 60;

export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || seconds > MAX_SECONDS) {
    throw new InvalidArgumentError(`It must be a number of seconds from 0 to ${MAX_SECONDS}.`);
  }
  return Math.round(seconds * 1000);
}

export function parseInteger(text: string): number {
  if (!/^-?\d{1,10}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

export function parseDomidOption(text: string): number {
  const domid = Number(text);
  if (!/^\d{1,5}$/.test(text) || domid >= 0x7ff0) throw new InvalidArgumentError('It must be a domain id.');
  return domid;
}

/** For an option that may be given several times. */
export function parseDomids(text: string, before: readonly number[]): number[] {
  const domid = parseDomidOption(text);
  if (domid === 0) throw new InvalidArgumentError('Domain 0 has the main socket.');
  return [...before, domid];
}

export function parseMode(text: string): number {
  if (!/^[0-7]{3,4}$/.test(text)) throw new InvalidArgumentError('It must be an octal file mode such as 0660.');
  return Number.parseInt(text, 8);
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/** `65536`, `64K`, `1M`. */
export function parseBytes(text: string): number {
  const match = /^(\d{1,10})([KMG]?)$/i.exec(text);
  if (match === null) throw new InvalidArgumentError('It must be a number of bytes such as 65536, 64K or 1M.');
  return Number(match[1]) * (UNITS[(match[2] ?? '').toUpperCase()] ?? 1);
}

/** `^]`, `^A`, `none`; undefined for `none`. The value is the byte to look for. */
export function parseEscape(text: string): number | 'none' {
  if (text === 'none') return 'none';
  const match = /^\^([@-_a-z?])$/.exec(text);
  if (match?.[1] === undefined)
    throw new InvalidArgumentError("It must be a control character such as ^] or ^A, or 'none'.");
  return match[1] === '?' ? 0x7f : match[1].toUpperCase().charCodeAt(0) - 0x40;
}

const LIKENESSES = ['xenstored-4.17', 'xenstored', 'oxenstored'] as const;
export type Likeness = (typeof LIKENESSES)[number];

export function parseLikeness(text: string): Likeness {
  const found = LIKENESSES.find((known) => known === text);
  if (found === undefined) throw new InvalidArgumentError(`It must be one of ${LIKENESSES.join(', ')}.`);
  return found;
}

/** More simulated domains than a machine is likely to stand. */
const MAX_COUNT = 1000;

/** A number, or a path where it is none. */
export function parseDomainCount(text: string): number | string {
  if (!/^\d+$/.test(text)) return text;
  const count = Number(text);
  if (count > MAX_COUNT) throw new InvalidArgumentError(`It must be a number from 0 to ${MAX_COUNT}.`);
  return count;
}
