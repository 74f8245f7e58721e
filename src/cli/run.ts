/**
 * The command line from arguments to exit code. Builds the commands, turns every failure into one line and a code;
 * knows nothing of what the commands do.
 */
import { Command, CommanderError } from 'commander';
import { ChannelError, EXIT } from '../base/errors.js';
import { readVersion } from '../base/version.js';
import { toChannelError } from '../dom0/store-errors.js';
import { addApply } from './commands/apply.js';
import { addAttach } from './commands/attach.js';
import { addConnect } from './commands/connect.js';
import { addDaemon } from './commands/daemon.js';
import { addDetach } from './commands/detach.js';
import { addErrors } from './commands/errors.js';
import { addEvents } from './commands/events.js';
import { addGuest } from './commands/guest.js';
import { addList } from './commands/list.js';
import { addPlan } from './commands/plan.js';
import { addRecv } from './commands/recv.js';
import { addSend } from './commands/send.js';
import { addSimulate } from './commands/simulate.js';
import { addStatus } from './commands/status.js';
import { addWait } from './commands/wait.js';
import { addXenstore } from './commands/xenstore.js';
import { addXenstored } from './commands/xenstored.js';
import { ExitStatus } from './exit-status.js';
import type { Io } from './io.js';
import { printError } from './output.js';

const ENVIRONMENT = `
Environment:
  XENSTORED_PATH       socket or device of xenstored
  XENSTORED_RUNDIR     directory of its socket (default /run/xenstored)
  XENCHANNEL_RUNDIR    directory of sockets and of the daemon (default /run/xenchannel)
  XENCHANNEL_STATEDIR  where channels that come back are recorded (default /var/lib/xenchannel)

Exit codes:
  0 done  1 bug  2 usage  3 not found  4 conflict  5 permission  6 timeout
  7 guest not ready  8 environment  9 partial  130 interrupted
`;

/** In the order of the help. */
const COMMANDS = [
  addAttach,
  addDetach,
  addApply,
  addList,
  addStatus,
  addConnect,
  addSend,
  addRecv,
  addWait,
  addEvents,
  addPlan,
  addDaemon,
  addGuest,
  addSimulate,
  addXenstored,
  addXenstore,
  addErrors,
];

/** `argv` without the interpreter and the script. Never throws; what went wrong is on stderr. */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const json = argv.includes('--json');
  const program = buildProgram(io);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return EXIT.done;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT.done;
      // Without a command commander prints the help, which says more than any sentence.
      if (error.code !== 'commander.help') printError(io, usageError(error), json);
      return EXIT.usage;
    }
    if (error instanceof ExitStatus) return error.status;
    const failure = toChannelError(error);
    printError(io, failure, json);
    if (failure.code === 'internal-bug' && failure.cause instanceof Error) io.stderr.write(`${failure.cause.stack}\n`);
    return failure.exitCode;
  }
}

function buildProgram(io: Io): Command {
  const program = new Command('xenchannel');
  program
    .description('Named, private byte streams between dom0 and Xen domains')
    .version(readVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show help for a command')
    .showHelpAfterError(false)
    .showSuggestionAfterError(true)
    // What follows a command is that command's business.
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      // The error comes out of parseAsync, too, and is printed there.
      outputError: () => {},
    })
    .addHelpText('after', ENVIRONMENT);
  for (const add of COMMANDS) add(program, io);
  return program;
}

function usageError({ message }: CommanderError): ChannelError {
  const sentence = message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .trim();
  return new ChannelError('usage-invalid', sentence);
}
