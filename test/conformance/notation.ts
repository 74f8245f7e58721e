/**
 * How bytes and messages look in a request script: `"a\0b"`, `{x*2000}`, `OK`, `ENOENT`, `event /a token`.
 * Pure text; knows no daemon.
 */
import { createHash } from 'node:crypto';
import { Op } from '../../xenstore/wire.js';

/** What a message looks like to the runner; decoded here and not by the product's codec, which is under test too. */
export type Received = {
  readonly type: number;
  readonly requestId: number;
  readonly transactionId: number;
  readonly payload: Buffer;
};

const OPERATION_NAMES = new Map<number, string>(
  Object.entries(Op).map(([name, number]) => [number, name.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase()]),
);
const OPERATION_NUMBERS = new Map([...OPERATION_NAMES].map(([number, name]) => [name, number]));

export function operationNumber(name: string): number {
  const number = /^\d+$/.test(name) ? Number(name) : OPERATION_NUMBERS.get(name);
  if (number === undefined) throw new Error(`'${name}' is no operation: a name such as DIRECTORY_PART or a number is`);
  return number;
}

/** Runs of one character beyond this are written as `{x*N}`. */
const LONG_RUN = 24;
/** Payloads that are longer than this even so are written as their length and a digest. */
const LONG_TEXT = 320;

function escapeByte(byte: number): string {
  if (byte === 0) return '\\0';
  const character = String.fromCharCode(byte);
  if (byte < 0x20 || byte > 0x7e) return `\\x${byte.toString(16).padStart(2, '0')}`;
  return '"\\{}'.includes(character) ? `\\${character}` : character;
}

/** Bytes as they stand between quotes in a script. */
export function formatBytes(bytes: Buffer): string {
  const text = [...bytes.toString('latin1').matchAll(/(.)\1*/gs)]
    .map(([run]) => {
      const one = escapeByte(run.charCodeAt(0));
      return run.length > LONG_RUN ? `{${one}*${run.length}}` : one.repeat(run.length);
    })
    .join('');
  if (text.length <= LONG_TEXT) return `"${text}"`;
  return `<${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}>`;
}

/** The bytes of a word as scripts have it: escapes and `{x*N}` work in quotes and without; `{i}` is the repetition. */
export function parseBytes(word: string, repetition = 0): Buffer {
  const inner = word.startsWith('"') ? word.slice(1, -1) : word;
  const parts = inner
    .replaceAll('{i}', String(repetition))
    .matchAll(/\{((?:\\x..|\\.|[^\\])+?)\*(\d+)\}|\\x(..)|\\(.)|(.)/gs);
  const bytes: Buffer[] = [];
  for (const [, run, times, hex, escaped, plain] of parts) {
    if (run !== undefined) bytes.push(Buffer.from(parseBytes(run).toString('latin1').repeat(Number(times)), 'latin1'));
    else if (hex !== undefined) bytes.push(Buffer.from(hex, 'hex'));
    else if (escaped !== undefined) bytes.push(Buffer.from(escaped === '0' ? '\0' : escaped, 'latin1'));
    else bytes.push(Buffer.from(plain ?? '', 'latin1'));
  }
  return Buffer.concat(bytes);
}

/** Words of a request: separated by blanks, a quoted word may contain them. */
export function splitWords(text: string): string[] {
  return text.match(/"(?:\\.|[^"\\])*"|\S+/g) ?? [];
}

function formatEvent(payload: Buffer): string {
  const parts = payload.toString('latin1').split('\0');
  const [path = '', token = '', ...rest] = parts;
  const plain = /^[A-Za-z0-9\-/_@]{1,100}$/.test(path) && /^[A-Za-z0-9\-/_@:.]{1,100}$/.test(token);
  return plain && rest.length === 1 && rest[0] === '' ? `event ${path} ${token}` : `event ${formatBytes(payload)}`;
}

function formatReply(message: Received): string {
  if (message.type === Op.Error) {
    const name = message.payload.toString('latin1');
    return /^E[A-Z0-9]+\0$/.test(name) ? name.slice(0, -1) : `ERROR ${formatBytes(message.payload)}`;
  }
  return message.payload.toString('latin1') === 'OK\0' ? 'OK' : formatBytes(message.payload);
}

/** What a script says about a received message; `request` is the one it answers, undefined for an event. */
export function formatMessage(message: Received, request: Received | undefined): string {
  const text = message.type === Op.WatchEvent ? formatEvent(message.payload) : formatReply(message);
  const wrongType = request && message.type !== Op.Error && message.type !== request.type;
  return [
    text,
    wrongType ? ` type=${message.type}` : '',
    message.requestId === (request?.requestId ?? 0) ? '' : ` req=${message.requestId}`,
    message.transactionId === (request?.transactionId ?? 0) ? '' : ` tx=${message.transactionId}`,
  ].join('');
}

/** `OK ; OK ; ENOSPC` with repeated items folded: `OK *2 ; ENOSPC`. Nothing at all is `nothing`. */
export function foldOutcome(items: readonly string[]): string {
  const folded: { text: string; times: number }[] = [];
  for (const text of items) {
    const last = folded.at(-1);
    if (last?.text === text) last.times += 1;
    else folded.push({ text, times: 1 });
  }
  const texts = folded.map(({ text, times }) => (times === 1 ? text : `${text} *${times}`));
  if (texts.length > 24) {
    const digest = createHash('sha256').update(texts.join('\n')).digest('hex').slice(0, 12);
    return `${texts.slice(0, 3).join(' ; ')} ; <${texts.length - 6} more ${digest}> ; ${texts.slice(-3).join(' ; ')}`;
  }
  return texts.length === 0 ? 'nothing' : texts.join(' ; ');
}

/** The payload of a request written as words: strings ended by NUL, except for the value of WRITE. */
export function encodeArguments(operation: number, words: readonly Buffer[]): Buffer {
  const nul = Buffer.from([0]);
  if (words.length === 0)
    return operation === Op.TransactionStart || operation === Op.ResetWatches ? nul : Buffer.alloc(0);
  const ended = words.flatMap((word) => [word, nul]);
  return Buffer.concat(operation === Op.Write && words.length > 1 ? ended.slice(0, -1) : ended);
}
