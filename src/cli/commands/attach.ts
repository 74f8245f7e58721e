/** `xenchannel attach`: a named channel for a running domain. */
import type { Command } from 'commander';
import type { AttachResult } from '../../dom0/attach.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import type { Io } from '../io.js';
import { parseBytes, parseInteger, parseMode, parseSeconds } from '../options.js';
import { cell, printJson, printLine, printWarnings } from '../output.js';

interface Options {
  connection?: string;
  path?: string;
  deviceId?: number;
  backend?: string;
  mode?: number;
  owner?: string;
  group?: string;
  limit?: number;
  overflow?: string;
  speakFirst?: boolean;
  connect?: string;
  log?: string;
  logSize?: number;
  logKeep?: number;
  logTimestamps?: boolean;
  wait?: number;
  persist?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  xenchannel attach db1 org.qemu.guest_agent.0 --wait 10
  xenchannel attach 5 org.example.agent --path /run/agent.sock --mode 0600 --owner agent
  xenchannel attach db1 org.example.agent --persist      it comes back when the domain reboots or is restored
  xenchannel attach db1 org.example.console --connection pty --path /run/db1.tty
  xenchannel attach db1 org.example.agent --connect /run/broker.sock --log /var/log/db1-agent.log
  xenchannel attach db1 org.example.agent --dry-run      show what would be written

<domain> is an id, a name or a uuid; an id wins over a name that looks like one.
`;

export function addChannelOptions(command: Command): Command {
  return command
    .option('--connection <kind>', 'socket or pty (default: socket)')
    .option('--path <path>', 'where it appears in dom0 (default: <run directory>/dom<domid>/<name>)')
    .option('--device-id <n>', 'device id 1-9 (default: the lowest free one of 1-7)', parseInteger)
    .option('--backend <kind>', 'native (our daemon) or qemu (default: native)')
    .option('--connect <path>', 'connect to the socket that somebody else serves there, instead of serving one')
    .option('--mode <octal>', 'mode of the socket or terminal (default: 0660)', parseMode)
    .option('--owner <user>', 'owner of the socket')
    .option('--group <group>', 'group of the socket')
    .option('--limit <bytes>', 'most bytes kept for a slow or absent client (default: 1M)', parseBytes)
    .option('--overflow <policy>', 'drop-oldest or drop-newest (default: drop-oldest)')
    .option('--speak-first', 'send to the guest before it has opened the channel')
    .option('--log <file>', 'write all that the guest says to a file, too')
    .option('--log-size <bytes>', 'at this size it becomes <file>.1 (default: 16M)', parseBytes)
    .option('--log-keep <n>', 'how many older files are kept (default: 4)', parseInteger)
    .option('--log-timestamps', 'with the time in front of each line');
}

export function addAttach(program: Command, io: Io): void {
  addChannelOptions(program.command('attach').argument('<domain>').argument('<name>'))
    .description('put a named channel on a running domain')
    .option('--wait <seconds>', 'wait until the guest is connected', parseSeconds)
    .option('--persist', 'record it: the daemon attaches it again when the domain comes back')
    .option('--dry-run', 'check everything, write nothing, show the writes')
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((domain: string, name: string, options: Options) => runAttach(io, domain, name, options));
}

async function runAttach(io: Io, domain: string, name: string, options: Options): Promise<void> {
  const [{ attach }, { attachPersistently }, { parseChannelSpec }, plan] = await Promise.all([
    import('../../dom0/attach.js'),
    import('../../dom0/persist.js'),
    import('../../console/spec.js'),
    import('../../dom0/plan.js'),
  ]);
  const { limit, wait, persist = false, dryRun = false, json = false, ...given } = options;
  const spec = parseChannelSpec({ ...given, name, limitBytes: limit });
  const request = { domain, spec, dryRun, signal: io.signal, ...(wait === undefined ? {} : { waitMs: wait }) };
  const run = persist ? attachPersistently : attach;
  const result = await withStore(io, (store) => run(store, request, dom0EnvironmentOf(io)));
  const { writes, ...facts } = result;
  if (json) {
    printJson(io, { dryRun, persist, ...facts, ...(dryRun ? { writes: plan.toJsonNodes(writes) } : {}) });
    return;
  }
  printWarnings(io, result.warnings);
  if (dryRun) io.stdout.write(plan.formatText(writes));
  else printLine(io, `${describeResult(result)}${persist ? '; it will come back' : ''}`);
}

function describeResult({ name, domain, deviceId, connection, path, connected }: AttachResult): string {
  const who = cell(domain.name ?? domain.domid);
  return `attached ${name} to domain ${who} as device ${deviceId}${connected ? ', connected' : ''}: ${connection} ${cell(path)}`;
}
