/** `xenchannel plan`: the exact xenstore writes of one channel, without a store. */
import type { Command } from 'commander';
import { ChannelError } from '../../base/errors.js';
import { type Io, runDirectoryOf } from '../io.js';
import { parseDomidOption } from '../options.js';
import { printJson } from '../output.js';
import { addChannelOptions } from './attach.js';

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
  domid: number;
  backendDomid: number;
  format?: string;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  xenchannel plan org.qemu.guest_agent.0 --domid 5
  xenchannel plan org.example.agent --domid 5 --device-id 3 --format json
  xenchannel plan org.example.agent --domid 5 --format shell     for a domain that has not started

Nothing is read or written; without --device-id the plan is for device 1.
`;

export function addPlan(program: Command, io: Io): void {
  addChannelOptions(program.command('plan').argument('<name>'))
    .description('show the xenstore writes of a channel, offline')
    .requiredOption('--domid <id>', 'the domain', parseDomidOption)
    .option('--backend-domid <id>', 'the domain that serves it', parseDomidOption, 0)
    .option('--format <format>', 'text, json or shell (default: text)')
    .option('--json', 'same as --format json')
    .addHelpText('after', EXAMPLES)
    .action((name: string, options: Options) => runPlan(io, name, options));
}

async function runPlan(io: Io, name: string, options: Options): Promise<void> {
  const [plan, { parseChannelSpec }] = await Promise.all([
    import('../../dom0/plan.js'),
    import('../../console/spec.js'),
  ]);
  const { limit, domid, backendDomid, json, format = json === true ? 'json' : 'text', ...given } = options;
  if (domid === 0) throw new ChannelError('usage-invalid', 'domain 0 cannot have a channel', { domid });
  const spec = parseChannelSpec({ ...given, name, limitBytes: limit });
  const planned = plan.planChannel({ spec, domid, backendDomid, runDirectory: runDirectoryOf(io.env) });
  if (format === 'json') printJson(io, { ...planned, writes: plan.toJsonNodes(planned.writes) });
  else if (format === 'text') io.stdout.write(plan.formatText(planned.writes));
  else if (format === 'shell') io.stdout.write(plan.formatShell(planned));
  else throw new ChannelError('usage-invalid', `format '${format}' is not known: use text, json or shell`, { format });
}
