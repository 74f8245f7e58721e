/** `xenchannel simulate`: a whole Xen host in this process, without Xen. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { LogLevel } from '../../base/log.js';
import { aborted } from '../context.js';
import { readDomainsFile } from '../domains-file.js';
import type { Io } from '../io.js';
import { addLogOption, loggerOf } from '../logging.js';
import { type Likeness, parseDomainCount, parseLikeness } from '../options.js';
import { printLine } from '../output.js';

interface Options {
  domains: number | string;
  root?: string;
  like?: Likeness;
  agent: boolean;
  daemon: boolean;
  hypervisor?: string;
  logLevel: LogLevel;
}

const EXAMPLES = `
Examples:
  xenchannel simulate --domains 2 --root /tmp/xc
  xenchannel simulate --like oxenstored --log-level info
  xenchannel simulate --domains domains.json
    [{"name": "db1", "uuid": "...", "domid": 4, "channels": [{"name": "org.example.a"}]}, {"name": "web"}]

In a file everything is optional. The channels are those of a domain's configuration file: the nodes are as libxl makes
them, and nobody serves them; use attach for others.

It prints the environment that makes other commands and genuine xenstore tools use it. The devices of domain 1 are below
<root>/dom1/dev; XENSTORED_PATH=<root>/dom1/dev/xen/xenbus acts as that domain.
`;

export function addSimulate(program: Command, io: Io): void {
  addLogOption(program.command('simulate'), 'warn')
    .description('run a simulated host with guests, daemon and xenstored, until stopped')
    .option('--domains <n|file>', 'how many domains to start, or a JSON list of them', parseDomainCount, 1)
    .option('--root <dir>', 'where everything appears (default: a new directory below the temporary one)')
    .option('--like <xenstored>', 'answer like xenstored-4.17, xenstored or oxenstored', parseLikeness)
    .option('--no-agent', 'without our agent in the guests')
    .option('--no-daemon', 'without our daemon in dom0')
    .option('--hypervisor <dir>', 'share pages and event channels there, for `xenchannel daemon --hypervisor <dir>`')
    .addHelpText('after', EXAMPLES)
    .action((options: Options) => runSimulate(io, options));
}

async function runSimulate(
  io: Io,
  { domains, root, like, agent, daemon, hypervisor, logLevel }: Options,
): Promise<void> {
  const specs = typeof domains === 'number' ? domains : readDomainsFile(domains);
  const { SimulatedHost } = await import('../../simulation/index.js');
  const host = await SimulatedHost.start({
    root: root === undefined ? await mkdtemp(join(tmpdir(), 'xenchannel-')) : resolve(root),
    domains: specs,
    agent,
    // A daemon of this process cannot reach what is shared.
    daemon: daemon && hypervisor === undefined,
    ...(hypervisor === undefined ? {} : { hypervisor: await shareHypervisor(resolve(hypervisor)) }),
    clock: io.clock,
    log: loggerOf(io, logLevel),
    ...(like === undefined ? {} : { like }),
  });
  try {
    printLine(io, `export XENSTORED_PATH=${host.storePath} XENCHANNEL_RUNDIR=${host.runDirectory}`);
    printLine(io, `export XENCHANNEL_STATEDIR=${host.stateDirectory}`);
    const names = host.domains.map(({ domid, name }) => `${domid} (${name})`).join(', ');
    printLine(io, `ready: ${names === '' ? 'no domain' : `domain ${names}`} below ${host.root}; ^C ends it`);
    await aborted(io.signal);
  } finally {
    await host.stop();
  }
}

async function shareHypervisor(directory: string) {
  return new (await import('../../hypervisor/shared-simulated.js')).SharedHypervisor(directory);
}
