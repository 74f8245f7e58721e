/** `xenchannel apply`: makes the host have the channels of a file. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { ChannelError, EXIT } from '../../base/errors.js';
import type { ApplyAction, ApplyResult } from '../../dom0/apply.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import { ExitStatus } from '../exit-status.js';
import type { Io } from '../io.js';
import { cell, printError, printJson, printLine } from '../output.js';

interface Options {
  dryRun?: boolean;
  prune?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  xenchannel apply channels.json --dry-run      show what would be done
  xenchannel apply channels.json --prune        and take off what was recorded and is not in the file

The file is JSON; a domain is given by its name or uuid:
  {"domains": {"db1": [{"name": "org.qemu.guest_agent.0"},
                       {"name": "org.example.a", "path": "/run/a.sock", "mode": "0660", "deviceId": 3}]}}
A channel may have name, connection, path, deviceId, backend, mode, owner, group, limitBytes, overflow and speakFirst, with
the meaning of the options of attach.

What is attached is recorded, and comes back with its domain; what is for a domain that does not run is recorded only.
Channels that were attached without a record are left alone. Exit code 9: some of it could not be done.

  = as it shall be   + attach   * record   - detach, forget   ! refused or failed
`;

const SIGNS: Readonly<Record<ApplyAction, string>> = {
  keep: '=',
  attach: '+',
  record: '*',
  detach: '-',
  forget: '-',
  refuse: '!',
};

export function addApply(program: Command, io: Io): void {
  program
    .command('apply')
    .argument('<file>', 'JSON; - for stdin')
    .description('make domains have the channels of a file')
    .option('--dry-run', 'show what would be done, and do nothing')
    .option('--prune', 'detach and forget recorded channels that the file does not have')
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((file: string, options: Options) => runApply(io, file, options));
}

async function runApply(io: Io, file: string, { dryRun = false, prune = false, json = false }: Options): Promise<void> {
  const [{ applyDesired }, { parseDesiredFile }] = await Promise.all([
    import('../../dom0/apply.js'),
    import('../../dom0/desired-file.js'),
  ]);
  const domains = parseDesiredFile(await readText(io, file), file === '-' ? 'stdin' : file);
  const onStep = (result: ApplyResult): void => {
    if (!json && (dryRun || result.action !== 'keep')) printLine(io, describeStep(result));
  };
  const request = { domains, dryRun, prune, signal: io.signal, onStep };
  const steps = await withStore(io, (store) => applyDesired(store, request, dom0EnvironmentOf(io)));
  const failed = steps.filter(({ error }) => error !== null).length;
  if (json) printJson(io, { dryRun, steps, failed });
  else if (failed === 0 && !dryRun) printLine(io, `${steps.length} channels, all as they shall be`);
  if (failed === 0) return;
  const sentence = `${failed} of ${steps.length} steps ${dryRun ? 'would fail' : 'failed'}`;
  if (json) throw new ExitStatus(EXIT.partial);
  printError(io, new ChannelError('apply-incomplete', sentence), false);
  throw new ExitStatus(EXIT.partial);
}

function describeStep({ action, domain, name, deviceId, error }: ApplyResult): string {
  const what = action === 'refuse' ? 'refused' : action;
  const where = `${cell(domain, 64)} ${cell(name, 64)}${deviceId === null ? '' : `, device ${deviceId}`}`;
  return error === null ? `${SIGNS[action]} ${what} ${where}` : `! ${what} ${where}: ${cell(error.message, 500)}`;
}

async function readText(io: Io, file: string): Promise<string> {
  if (file !== '-') return readFileSync(file, 'utf8');
  const chunks: Buffer[] = [];
  for await (const chunk of io.stdin) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString('utf8');
}
