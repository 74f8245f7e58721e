/** `xenchannel errors`: the manual of the stable error codes, from the table that the errors themselves use. */
import type { Command } from 'commander';
import { ChannelError, ERRORS, type ErrorCode } from '../../base/errors.js';
import type { Io } from '../io.js';
import { formatTable, printJson, printLine } from '../output.js';

const EXAMPLES = `
Examples:
  xenchannel errors
  xenchannel errors path-in-use
`;

export function addErrors(program: Command, io: Io): void {
  program
    .command('errors')
    .argument('[code]')
    .description('explain the error codes and their exit codes')
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((code: string | undefined, { json = false }: { json?: boolean }) => explain(io, code, json));
}

function explain(io: Io, code: string | undefined, json: boolean): void {
  const codes = Object.keys(ERRORS) as ErrorCode[];
  const wanted = code === undefined ? codes : codes.filter((known) => known === code);
  if (wanted.length === 0) throw new ChannelError('usage-invalid', `there is no error code '${code?.slice(0, 60)}'`);
  const rows = wanted.map((known) => ({ code: known, exit: ERRORS[known].exit, manual: ERRORS[known].manual }));
  if (json) printJson(io, { errors: rows });
  else if (code !== undefined) for (const { exit, manual } of rows) printLine(io, `exit ${exit}: ${manual}`);
  else
    io.stdout.write(
      formatTable(
        ['CODE', 'EXIT', 'MEANING'],
        rows.map((row) => [row.code, String(row.exit), row.manual]),
      ),
    );
}
