/** `xenchannel xenstored`: a simulated xenstore daemon on a socket, for any xenstore client. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { LogLevel } from '../../base/log.js';
import { aborted } from '../context.js';
import type { Io } from '../io.js';
import { addLogOption, loggerOf } from '../logging.js';
import { type Likeness, parseLikeness } from '../options.js';
import { printLine } from '../output.js';

interface Options {
  socket: string;
  like?: Likeness;
  logLevel: LogLevel;
}

const EXAMPLES = `
Examples:
  xenchannel xenstored --socket /tmp/xenstored.sock
  XENSTORED_PATH=/tmp/xenstored.sock xenstore-ls -fp      in another terminal
`;

export function addXenstored(program: Command, io: Io): void {
  addLogOption(program.command('xenstored'), 'warn')
    .description('run a simulated xenstored, until stopped')
    .requiredOption('--socket <path>', 'where it listens')
    .option('--like <xenstored>', 'answer like xenstored-4.17, xenstored or oxenstored', parseLikeness)
    .addHelpText('after', EXAMPLES)
    .action((options: Options) => runXenstored(io, options));
}

async function runXenstored(io: Io, { socket, like, logLevel }: Options): Promise<void> {
  const [{ XenstoreEngine }, { XenstoreServer }] = await Promise.all([
    import('../../../xenstore/daemon/engine.js'),
    import('../../../xenstore/daemon/server.js'),
  ]);
  const path = resolve(socket);
  const server = new XenstoreServer(new XenstoreEngine(like === undefined ? {} : { like }), loggerOf(io, logLevel));
  await server.listen(path);
  try {
    printLine(io, `export XENSTORED_PATH=${path}`);
    printLine(io, 'ready: ^C ends it');
    await aborted(io.signal);
  } finally {
    await server.close();
  }
}
