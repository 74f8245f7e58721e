/** How results and errors look: tables and sentences for people, JSON for programs. Decides nothing else. */
import type { ChannelError } from '../base/errors.js';
import { printable } from '../console/name.js';
import type { Io } from './io.js';

export function printJson(io: Pick<Io, 'stdout'>, value: unknown): void {
  io.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function printLine(io: Pick<Io, 'stdout'>, line: string): void {
  io.stdout.write(`${line}\n`);
}

export function printWarnings(io: Pick<Io, 'stderr'>, warnings: readonly string[]): void {
  for (const warning of warnings) io.stderr.write(`warning: ${warning}\n`);
}

export function printError(io: Pick<Io, 'stderr'>, error: ChannelError, json: boolean): void {
  const { code, message, exitCode, details } = error;
  io.stderr.write(
    json
      ? `${JSON.stringify({ error: { code, message, exitCode, details } })}\n`
      : `xenchannel: ${message.replaceAll('\n', ' ')} [${code}]\n`,
  );
}

/** A cell as a terminal may see it: guests and toolstacks have put escape sequences into names. */
export function cell(value: string | number | null | undefined, limit = 200): string {
  if (value === null || value === undefined || value === '') return '-';
  const text = String(value);
  return text.length <= limit && /^[\x20-\x7e]*$/.test(text) ? text : printable(text, limit);
}

/** Columns two blanks apart, as wide as their widest cell; the last one is not padded. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map((line) =>
      line
        .map((text, column) => (column === header.length - 1 ? text : text.padEnd(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}
