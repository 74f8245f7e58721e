/**
 * One request while it is handled, and how its payload is taken apart. One object serves all requests of an engine: a
 * handler must not keep it.
 * Source: xen:tools/xenstore/xenstored_core.c (onearg, get_strings, xs_count_strings).
 */
import type { Connection } from './connection.js';
import { textOf } from './latin1.js';
import type { DaemonError } from './likeness.js';
import type { Transaction } from './transactions.js';

const NO_BYTES = Buffer.alloc(0);

export class Request {
  connection: Connection;
  type = 0;
  id = 0;
  transactionId = 0;
  transaction: Transaction | undefined = undefined;
  /** The errno name it was answered with. */
  error: DaemonError | undefined = undefined;
  bytes: Buffer = NO_BYTES;
  start = 0;
  end = 0;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** The payload as latin-1, if it is one string: exactly one NUL, at the end. */
  onlyString(): string | undefined {
    if (this.end === this.start || this.bytes[this.end - 1] !== 0) return undefined;
    const text = textOf(this.bytes, this.start, this.end - 1);
    return text.includes('\0') ? undefined : text;
  }

  /** The complete strings; bytes after the last NUL are left out. */
  strings(): string[] {
    const texts = textOf(this.bytes, this.start, this.end).split('\0');
    texts.pop();
    return texts;
  }

  /** Where the first NUL is, or -1. */
  firstNul(): number {
    const { bytes, end } = this;
    for (let at = this.start; at < end; at++) if (bytes[at] === 0) return at;
    return -1;
  }
}

/** What C's atoi makes of it: leading blanks, a sign, digits; anything else is 0. */
export function atoi(text: string): number {
  const match = /^[ \t\n\v\f\r]*([+-]?\d+)/.exec(text);
  return match === null ? 0 : Number(match[1]) | 0;
}
