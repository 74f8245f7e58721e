/**
 * The command line from arguments to exit code. Builds the commands, turns every failure into one line and a code;
 * knows nothing of what the commands do.
 */
import { Command, CommanderError } from 'commander';
import { ChannelError, EXIT } from '../base/errors.js';
import { readVersion } from '../base/version.js';
import { toChannelError } from '../dom0/store-errors.js';
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

type AddCommand = (program: Command, io: Io) => void;

/**
 * In the order of the help. Each is loaded when it is asked for: a command opens a third of the files then, which is most
 * of what a short one costs.
 */
const COMMANDS: Readonly<Record<string, () => Promise<AddCommand>>> = {
  attach: async () => (await import('./commands/attach.js')).addAttach,
  detach: async () => (await import('./commands/detach.js')).addDetach,
  apply: async () => (await import('./commands/apply.js')).addApply,
  list: async () => (await import('./commands/list.js')).addList,
  status: async () => (await import('./commands/status.js')).addStatus,
  connect: async () => (await import('./commands/connect.js')).addConnect,
  send: async () => (await import('./commands/send.js')).addSend,
  recv: async () => (await import('./commands/recv.js')).addRecv,
  wait: async () => (await import('./commands/wait.js')).addWait,
  events: async () => (await import('./commands/events.js')).addEvents,
  plan: async () => (await import('./commands/plan.js')).addPlan,
  daemon: async () => (await import('./commands/daemon.js')).addDaemon,
  guest: async () => (await import('./commands/guest.js')).addGuest,
  simulate: async () => (await import('./commands/simulate.js')).addSimulate,
  xenstored: async () => (await import('./commands/xenstored.js')).addXenstored,
  xenstore: async () => (await import('./commands/xenstore.js')).addXenstore,
  errors: async () => (await import('./commands/errors.js')).addErrors,
};

/** `argv` without the interpreter and the script. Never throws; what went wrong is on stderr. */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const json = argv.includes('--json');
  try {
    const program = await buildProgram(argv[0], io);
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

/** With all commands, unless the first argument is one of them: help and suggestions need them all. */
async function buildProgram(first: string | undefined, io: Io): Promise<Command> {
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
  const only = first !== undefined && Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  const wanted = only === undefined ? Object.values(COMMANDS) : [only];
  for (const add of await Promise.all(wanted.map((load) => load()))) add(program, io);
  return program;
}

function usageError({ message }: CommanderError): ChannelError {
  const sentence = message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .trim();
  return new ChannelError('usage-invalid', sentence);
}
