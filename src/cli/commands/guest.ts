/** `xenchannel guest`: what runs inside a domain. */
import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import type { LogLevel } from '../../base/log.js';
import type { ResolvedChannel } from '../../guest/index.js';
import { aborted, withStore } from '../context.js';
import type { Io } from '../io.js';
import { addLogOption, loggerOf } from '../logging.js';
import { cell, formatTable, printJson, printLine } from '../output.js';

const EXAMPLES = `
Examples (inside the domain):
  xenchannel guest list
  xenchannel guest agent --virtio-ports      links in /dev/virtio-ports, too

--root and XENSTORED_PATH let both act as a domain of a simulated host:
  XENSTORED_PATH=/tmp/xc/dom1/dev/xen/xenbus xenchannel guest list --root /tmp/xc/dom1
`;

interface AgentOptions {
  root: string;
  virtioPorts?: boolean;
  keepLinks?: boolean;
  logLevel: LogLevel;
}

export function addGuest(program: Command, io: Io): void {
  const guest = program.command('guest').description('inside a domain: find, hold and link its channels');
  guest.addHelpText('after', EXAMPLES);
  addLogOption(guest.command('agent'), 'info')
    .description('keep every channel raw and linked at /dev/xenchannel/<name>, until stopped')
    .option('--root <dir>', 'devices are below <dir>/dev', '/')
    .option('--virtio-ports', 'make links in /dev/virtio-ports, too')
    .option('--keep-links', 'leave the links when stopped')
    .addHelpText('after', EXAMPLES)
    .action((options: AgentOptions) => runAgent(io, options));
  guest
    .command('list')
    .description('show the channels of this domain')
    .option('--root <dir>', 'devices are below <dir>/dev', '/')
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((options: { root: string; json?: boolean }) => runList(io, options));
}

async function runAgent(
  io: Io,
  { root, virtioPorts = false, keepLinks = false, logLevel }: AgentOptions,
): Promise<void> {
  const [{ GuestAgent }, { XenstoreClient }] = await Promise.all([
    import('../../guest/agent.js'),
    import('../../../xenstore/client/client.js'),
  ]);
  const store = await XenstoreClient.connect({ env: io.env, clock: io.clock, signal: io.signal });
  try {
    const log = loggerOf(io, logLevel);
    const setup = { store, root, clock: io.clock, log, random: (bytes: number) => randomBytes(bytes) };
    const agent = await GuestAgent.start({ ...setup, options: { virtioPorts } });
    log.log('info', 'agent started', { root, store: store.path });
    await aborted(io.signal);
    await agent.stop({ keepLinks });
  } finally {
    await store.close();
  }
}

async function runList(io: Io, { root, json = false }: { root: string; json?: boolean }): Promise<void> {
  const { describeChannels } = await import('../../guest/describe.js');
  const channels = await withStore(io, (store) => describeChannels(store, root));
  if (json) printJson(io, { channels });
  else if (channels.length === 0) printLine(io, 'no channels');
  else io.stdout.write(formatTable(['ID', 'CHANNEL', 'STATE', 'TTY', 'LINK', 'PROBLEM'], channels.map(rowOf)));
}

function rowOf({ deviceId, name, state, tty, links, problem }: ResolvedChannel): string[] {
  return [cell(deviceId), cell(name, 64), state, cell(tty), cell(links[0]), cell(problem?.sentence)];
}
