/** `xenchannel list`: the channels of one domain or of all, whoever made them. */
import type { Command } from 'commander';
import type { ListedChannel, Listing } from '../../dom0/list.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import type { Io } from '../io.js';
import { cell, formatTable, printJson, printLine, printWarnings } from '../output.js';

const EXAMPLES = `
Examples:
  xenchannel list
  xenchannel list db1 --json

STATE   connected, or the states of frontend and backend
A channel that is recorded (attach --persist, apply) and missing has a line of its own, with the reason.

SERVER  native: our daemon; qemu: the domain's QEMU, asked by us; toolstack: made by xl or libvirt, shown only
`;

export function addList(program: Command, io: Io): void {
  program
    .command('list')
    .argument('[domain]')
    .description('show the channels of one domain or of all')
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((domain: string | undefined, options: { json?: boolean }) => runList(io, domain, options));
}

async function runList(io: Io, domain: string | undefined, { json = false }: { json?: boolean }): Promise<void> {
  const { list } = await import('../../dom0/list.js');
  const listing = await withStore(io, (store) => list(store, dom0EnvironmentOf(io), domain));
  if (json) printJson(io, listing);
  else printListing(io, listing);
}

function printListing(io: Io, { channels, leftOut, wanted, recordProblems }: Listing): void {
  printWarnings(io, recordProblems);
  if (leftOut > 0) printWarnings(io, [`${leftOut} consoles were left out: one domain has more than can be shown`]);
  if (channels.length === 0) printLine(io, 'no channels');
  else
    io.stdout.write(formatTable(['DOMID', 'DOMAIN', 'ID', 'CHANNEL', 'STATE', 'SERVER', 'PATH'], channels.map(rowOf)));
  for (const { domain, uuid, domid, name, reason } of wanted) {
    const who = `${cell(domid)} ${cell(domain ?? uuid, 64)}`;
    printLine(io, `${who} ${cell(name, 64)}: wanted, not attached: ${cell(reason, 500)}`);
  }
}

function rowOf(channel: ListedChannel): string[] {
  return [
    cell(channel.domid),
    cell(channel.domain, 32),
    cell(channel.deviceId),
    cell(channel.name, 64),
    describeChannelState(channel),
    channel.server,
    cell(channel.path ?? channel.connection),
  ];
}

/** One word where all is well, both halves where it is not. */
export function describeChannelState(channel: ListedChannel): string {
  if (channel.missing.length > 0) return `without ${channel.missing.join('+')}`;
  if (channel.connected) return channel.online ? 'connected' : 'detaching';
  return `${channel.frontendState ?? 'invalid'}/${channel.backendState ?? 'invalid'}`;
}
