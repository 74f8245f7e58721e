/** `xenchannel daemon`: serves the channels of all domains, on a genuine Xen. */
import { chmod, mkdir } from 'node:fs/promises';
import type { Command } from 'commander';
import { ChannelError } from '../../base/errors.js';
import type { LogLevel } from '../../base/log.js';
import { aborted } from '../context.js';
import { type Io, runDirectoryOf } from '../io.js';
import { addLogOption, loggerOf } from '../logging.js';
import { parseDomidOption } from '../options.js';

interface Options {
  backendDomid: number;
  logLevel: LogLevel;
}

const EXAMPLES = `
Examples:
  xenchannel daemon
  XENCHANNEL_RUNDIR=/tmp/xc xenchannel daemon --log-level debug

SIGTERM ends it in order: guests notice nothing, and the next daemon goes on where it stopped.
`;

/** Enough to pass through to one's own socket, not to see what others have. */
const RUN_DIRECTORY_MODE = 0o711;

export function addDaemon(program: Command, io: Io): void {
  addLogOption(program.command('daemon'), 'info')
    .description('serve the channels of all domains, until stopped')
    .option('--backend-domid <id>', 'the domain this runs in', parseDomidOption, 0)
    .addHelpText('after', EXAMPLES)
    .action((options: Options) => runDaemon(io, options));
}

async function runDaemon(io: Io, { backendDomid, logLevel }: Options): Promise<void> {
  const [{ openXenHypervisor }, { BackendDaemon }, { XenstoreClient }] = await Promise.all([
    import('../../hypervisor/xen.js'),
    import('../../backend/daemon.js'),
    import('../../../xenstore/client/client.js'),
  ]);
  const log = loggerOf(io, logLevel);
  const runDirectory = runDirectoryOf(io.env);
  const hypervisor = openXenHypervisor({ log });
  try {
    await makeRunDirectory(runDirectory);
    const store = await XenstoreClient.connect({ env: io.env, clock: io.clock, signal: io.signal });
    try {
      const daemon = await BackendDaemon.start({ store, hypervisor, clock: io.clock, log, runDirectory, backendDomid });
      await aborted(io.signal);
      await daemon.stop();
    } finally {
      await store.close();
    }
  } finally {
    hypervisor.close();
  }
}

async function makeRunDirectory(runDirectory: string): Promise<void> {
  try {
    const made = await mkdir(runDirectory, { recursive: true });
    if (made !== undefined) await chmod(runDirectory, RUN_DIRECTORY_MODE);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ChannelError(
      'permission-denied',
      `cannot make the run directory ${runDirectory}: ${code}`,
      {},
      { cause },
    );
  }
}
