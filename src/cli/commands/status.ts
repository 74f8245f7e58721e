/** `xenchannel status`: every channel at length, with the daemon's live figures. */
import type { Command } from 'commander';
import type { Status } from '../../dom0/status.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import { type Io, runDirectoryOf } from '../io.js';
import { cell, printJson, printLine, printWarnings } from '../output.js';
import { channelLines, figureLines } from '../status-view.js';

interface Options {
  json?: boolean;
  verbose?: boolean;
  watch?: boolean;
}

const EXAMPLES = `
Examples:
  xenchannel status
  xenchannel status db1 org.qemu.guest_agent.0 --json
  xenchannel status --watch

--watch redraws the screen when something happens and every second, and without a terminal prints a line for each channel
that has changed (with --json an object), until it is interrupted.
`;

export function addStatus(program: Command, io: Io): void {
  program
    .command('status')
    .argument('[domain]')
    .argument('[name]')
    .description('show channels at length, with live figures of the daemon')
    .option('--watch', 'go on, until interrupted')
    .option('--verbose', 'every figure of the daemon, too')
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((domain: string | undefined, name: string | undefined, options: Options) =>
      runStatus(io, { domain, name }, options),
    );
}

type Wanted = { domain: string | undefined; name: string | undefined };

async function runStatus(io: Io, wanted: Wanted, options: Options): Promise<void> {
  const { json = false, verbose = false, watch = false } = options;
  const { status } = await import('../../dom0/status.js');
  if (watch) {
    const { watchStatus } = await import('../watch-status.js');
    return watchStatus(io, wanted, { json, draw: (found) => statusLines(io, found, verbose) });
  }
  const found = await withStore(io, (store) => status(store, wanted, dom0EnvironmentOf(io)));
  if (found.leftOut > 0) {
    printWarnings(io, [`${found.leftOut} consoles were left out: one domain has more than can be shown`]);
  }
  if (json) printJson(io, found);
  else for (const line of statusLines(io, found, verbose)) printLine(io, line);
}

function statusLines(io: Io, { daemon, channels }: Status, verbose: boolean): string[] {
  const where = runDirectoryOf(io.env);
  const { pid, startedAt, ...rest } = daemon.figures ?? {};
  const who = [
    pid === undefined ? '' : `, pid ${cell(String(pid))}`,
    startedAt === undefined ? '' : `, since ${cell(String(startedAt))}`,
  ];
  return [
    daemon.running ? `daemon: running at ${where}${who.join('')}` : `daemon: not running (no answer at ${where})`,
    ...(verbose ? figureLines(rest) : []),
    ...(channels.length === 0 ? ['no channels'] : []),
    ...channels.flatMap((channel) => ['', ...channelLines(channel, verbose)]),
  ];
}
