/** `xenchannel xenstored`: a simulated xenstore daemon on a socket, for any xenstore client. */
import { accessSync, constants } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { XenstoreEngine } from '../../../xenstore/daemon/engine.js';
import type { TraceRecord, Tracer } from '../../../xenstore/daemon/trace.js';
import type { LogLevel } from '../../base/log.js';
import { toChannelError } from '../../dom0/store-errors.js';
import { aborted } from '../context.js';
import type { Io } from '../io.js';
import { addLogOption, loggerOf } from '../logging.js';
import { type Likeness, parseDomids, parseLikeness } from '../options.js';
import { printError, printLine } from '../output.js';
import { LineFile, type LineSink } from '../trace-file.js';
import { readTreeFile, unusableFile, writeTreeFile } from '../tree-file.js';

interface Options {
  socket: string;
  like?: Likeness;
  load?: string;
  dump?: string;
  trace?: string | true;
  traceFormat: 'text' | 'json';
  domain: number[];
  logLevel: LogLevel;
}

const EXAMPLES = `
Examples:
  xenchannel xenstored --socket /tmp/xenstored.sock
  XENSTORED_PATH=/tmp/xenstored.sock xenstore-ls -fp      in another terminal

  xenchannel xenstored --socket /tmp/xs --domain 5        /tmp/xs-dom5 has the rights of domain 5
  xenchannel xenstored --socket /tmp/xs --load tree.json --dump tree.json
  xenchannel xenstored --socket /tmp/xs --trace --like oxenstored

The tree of --dump is written at the end and at each SIGUSR1.
`;

export function addXenstored(program: Command, io: Io): void {
  addLogOption(program.command('xenstored'), 'warn')
    .description('run a simulated xenstored, until stopped')
    .requiredOption('--socket <path>', 'where it listens')
    .option('--like <xenstored>', 'answer like xenstored-4.17, xenstored or oxenstored', parseLikeness)
    .option('--domain <domid>', 'introduce this domain and open a socket for it (repeatable)', parseDomids, [])
    .option('--load <file>', 'begin with this tree (JSON, as --dump writes it)')
    .option('--dump <file>', 'write the tree there at the end')
    .option('--trace [file]', 'a line per request and event; without a file on stderr')
    .addOption(new Option('--trace-format <format>', 'how these lines look').choices(['text', 'json']).default('text'))
    .addHelpText('after', EXAMPLES)
    .action((options: Options) => runXenstored(io, options));
}

async function runXenstored(io: Io, options: Options): Promise<void> {
  const [{ XenstoreEngine }, { XenstoreServer }, { openSocketIo }] = await Promise.all([
    import('../../../xenstore/daemon/engine.js'),
    import('../../../xenstore/daemon/server.js'),
    import('../../sys/socket-io.js'),
  ]);
  const { like, dump } = options;
  const trace = await openTrace(io, options);
  try {
    const engine = new XenstoreEngine({
      ...(like === undefined ? {} : { like }),
      ...(trace === undefined ? {} : { tracer: trace.tracer }),
    });
    if (options.load !== undefined) load(engine, options.load);
    // Better now than when the tree is to be saved.
    if (dump !== undefined) accessSync(dirname(resolve(dump)), constants.W_OK);
    const calls = openSocketIo();
    const server = new XenstoreServer(engine, loggerOf(io, options.logLevel), { direct: calls ?? true });
    try {
      await serve(io, engine, server, options);
    } finally {
      await server.close();
      calls?.close();
    }
    if (dump !== undefined) writeTreeFile(dump, engine.dump());
  } finally {
    trace?.sink.close();
  }
}

type Server = InstanceType<typeof import('../../../xenstore/daemon/server.js')['XenstoreServer']>;

/** Until the signal. */
async function serve(io: Io, engine: XenstoreEngine, server: Server, { socket, domain, dump }: Options): Promise<void> {
  const path = resolve(socket);
  await server.listen(path);
  const domains: [domid: number, path: string][] = [];
  for (const domid of new Set(domain)) {
    engine.introduceDomain(domid);
    await server.listen(`${path}-dom${domid}`, domid);
    domains.push([domid, `${path}-dom${domid}`]);
  }
  const stopDumping = dump === undefined ? () => {} : io.onUserSignal?.(() => dumpNow(io, engine, dump));
  try {
    printLine(io, `export XENSTORED_PATH=${path}`);
    for (const [domid, at] of domains) printLine(io, `domain ${domid}: XENSTORED_PATH=${at}`);
    printLine(io, 'ready: ^C ends it');
    await aborted(io.signal);
  } finally {
    stopDumping?.();
  }
}

function load(engine: XenstoreEngine, path: string): void {
  const tree = readTreeFile(path);
  try {
    engine.load(tree);
  } catch (error) {
    throw unusableFile(path, error);
  }
}

/** The daemon goes on, whatever becomes of the file. */
function dumpNow(io: Io, engine: XenstoreEngine, path: string): void {
  try {
    writeTreeFile(path, engine.dump());
  } catch (error) {
    printError(io, toChannelError(error), false);
  }
}

async function openTrace(io: Io, options: Options): Promise<{ tracer: Tracer; sink: LineSink } | undefined> {
  const { trace, traceFormat } = options;
  if (trace === undefined) return undefined;
  const { traceJson, traceText } = await import('../../../xenstore/daemon/trace.js');
  const format = traceFormat === 'json' ? traceJson : traceText;
  const sink: LineSink =
    trace === true
      ? { add: (line) => void io.stderr.write(line), close: () => {} }
      : new LineFile(trace, (error) => printError(io, toChannelError(error), false));
  return {
    sink,
    tracer: {
      now: () => performance.now() * 1000,
      record: (record: TraceRecord) => sink.add(format(record, io.clock.now())),
    },
  };
}
