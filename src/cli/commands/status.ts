/** `xenchannel status`: every channel at length, with the daemon's live figures. */
import type { Command } from 'commander';
import type { ChannelStatus, Figures, Status } from '../../dom0/status.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import { type Io, runDirectoryOf } from '../io.js';
import { cell, printJson, printLine, printWarnings } from '../output.js';
import { describeChannelState } from './list.js';

const EXAMPLES = `
Examples:
  xenchannel status
  xenchannel status db1 org.qemu.guest_agent.0 --json
`;

export function addStatus(program: Command, io: Io): void {
  program
    .command('status')
    .argument('[domain]')
    .argument('[name]')
    .description('show channels at length, with live figures of the daemon')
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((domain: string | undefined, name: string | undefined, options: { json?: boolean }) =>
      runStatus(io, { domain, name }, options),
    );
}

type Wanted = { domain: string | undefined; name: string | undefined };

async function runStatus(io: Io, wanted: Wanted, { json = false }: { json?: boolean }): Promise<void> {
  const { status } = await import('../../dom0/status.js');
  const found = await withStore(io, (store) => status(store, wanted, dom0EnvironmentOf(io)));
  if (json) printJson(io, found);
  else printStatus(io, found);
}

function printStatus(io: Io, { daemon, channels, leftOut }: Status): void {
  if (leftOut > 0) printWarnings(io, [`${leftOut} consoles were left out: one domain has more than can be shown`]);
  const where = runDirectoryOf(io.env);
  printLine(io, daemon.running ? `daemon: running at ${where}` : `daemon: not running (no answer at ${where})`);
  if (daemon.figures !== null) printFigures(io, daemon.figures);
  if (channels.length === 0) printLine(io, 'no channels');
  for (const channel of channels) printChannel(io, channel);
}

function printChannel(io: Io, channel: ChannelStatus): void {
  printLine(io, '');
  printLine(
    io,
    `${cell(channel.name)} of domain ${channel.domid} (${cell(channel.domain)}), device ${channel.deviceId}`,
  );
  const facts: [string, string][] = [
    ['state', describeChannelState(channel)],
    ['frontend', cell(channel.frontendState)],
    ['backend', cell(channel.backendState)],
    ['served by', channel.server],
    ['host end', `${cell(channel.connection)} ${cell(channel.path)}`],
    ['host client', channel.hostOpen ? 'connected' : 'none'],
    ['guest', channel.guestClaimsOpen ? 'open (claimed by the guest)' : 'not known to be open'],
    ['limit', `${channel.limitBytes} bytes`],
    ['uuid', cell(channel.uuid)],
  ];
  if (channel.nameProblem !== null) facts.push(['name', `not used for links: ${channel.nameProblem}`]);
  for (const [key, value] of facts) printFact(io, key, value);
  for (const { code, message } of channel.problems) printFact(io, 'problem', `${cell(message)} [${cell(code)}]`);
  if (channel.figures !== null) printFigures(io, channel.figures);
  else if (channel.server === 'native') printFact(io, 'figures', 'none: the daemon does not serve it');
}

/** What stands above the figures already. */
const SHOWN = new Set([
  'domid',
  'deviceId',
  'backendDomid',
  'name',
  'uuid',
  'connection',
  'path',
  'runDirectory',
  'frontendState',
  'backendState',
  'hostOpen',
  'guestOpen',
  'spoolLimitBytes',
  'problems',
]);

/** Plain values as they are, groups with their name in front. */
function printFigures(io: Io, figures: Figures, prefix = ''): void {
  for (const [key, value] of Object.entries(figures)) {
    if (prefix === '' && SHOWN.has(key)) continue;
    const label = `${prefix}${cell(key, 40)}`;
    if (value === null || ['string', 'number', 'boolean'].includes(typeof value))
      printFact(io, label, cell(String(value)));
    else if (!Array.isArray(value) && prefix === '') printFigures(io, value as Figures, `${label}.`);
  }
}

function printFact(io: Io, key: string, value: string): void {
  printLine(io, `  ${`${key}:`.padEnd(32)} ${value}`);
}
