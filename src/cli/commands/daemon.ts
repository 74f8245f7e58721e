/** `xenchannel daemon`: serves the channels of all domains, on a genuine Xen or on a simulated host of another process. */
import { type Command, Option } from 'commander';
import type { SpoolPlace } from '../../backend/spool-files.js';
import type { Logger, LogLevel } from '../../base/log.js';
import type { Hypervisor } from '../../hypervisor/ports.js';
import { tuneEngine } from '../../sys/engine.js';
import { aborted } from '../context.js';
import { type Io, runDirectoryOf, stateDirectoryOf } from '../io.js';
import { addLogOption, loggerOf } from '../logging.js';
import { parseDomidOption } from '../options.js';

interface Options {
  backendDomid: number;
  hypervisor?: string;
  spool: SpoolPlace;
  logLevel: LogLevel;
}

const EXAMPLES = `
Examples:
  xenchannel daemon
  XENCHANNEL_RUNDIR=/tmp/xc xenchannel daemon --log-level debug

Channels that are recorded (attach --persist, apply) are attached again when their domain comes back.
Under systemd it takes the control socket that it is given and says when it is ready; scripts/dom0 has the units.
SIGTERM ends it in order: guests notice nothing, and the next daemon goes on where it stopped.
`;

export function addDaemon(program: Command, io: Io): void {
  addLogOption(program.command('daemon'), 'info')
    .description('serve the channels of all domains, until stopped')
    .option('--backend-domid <id>', 'the domain this runs in', parseDomidOption, 0)
    .option('--hypervisor <dir>', 'instead of Xen: the one that `xenchannel simulate --hypervisor <dir>` shares')
    .addOption(
      new Option('--spool <where>', 'where bytes wait for clients: file survives a killed daemon')
        .choices(['auto', 'file', 'memory'])
        .default('auto'),
    )
    .addHelpText('after', EXAMPLES)
    .action((options: Options) => runDaemon(io, options));
}

async function runDaemon(io: Io, options: Options): Promise<void> {
  tuneEngine();
  const { backendDomid, spool, logLevel } = options;
  const [{ BackendDaemon }, { inheritedSockets, notifyManager }, { XenstoreClient }] = await Promise.all([
    import('../../backend/daemon.js'),
    import('../../sys/service-manager.js'),
    import('../../../xenstore/client/client.js'),
  ]);
  const log = loggerOf(io, logLevel);
  const runDirectory = runDirectoryOf(io.env);
  const hypervisor = await openHypervisor(options, log);
  try {
    const store = await XenstoreClient.connect({ env: io.env, clock: io.clock, signal: io.signal });
    try {
      const wiring = { store, hypervisor, clock: io.clock, log };
      // A driver domain may not attach anything.
      const state = backendDomid === 0 ? { stateDirectory: stateDirectoryOf(io.env) } : {};
      const [controlSocket] = inheritedSockets(io.env, process.pid);
      const activation = controlSocket === undefined ? {} : { controlSocket };
      const daemon = await BackendDaemon.start({
        ...wiring,
        ...state,
        ...activation,
        runDirectory,
        backendDomid,
        spool,
      });
      notifyManager(io.env, 'READY=1');
      await aborted(io.signal);
      notifyManager(io.env, 'STOPPING=1');
      await daemon.stop();
    } finally {
      await store.close();
    }
  } finally {
    hypervisor.close();
  }
}

async function openHypervisor({ hypervisor }: Options, log: Logger): Promise<Hypervisor> {
  if (hypervisor !== undefined)
    return (await import('../../hypervisor/shared-simulated.js')).openSharedBackend(hypervisor);
  return (await import('../../hypervisor/xen.js')).openXenHypervisor({ log });
}
