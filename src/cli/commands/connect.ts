/** `xenchannel connect`: this terminal, or this pipe, on a channel. */
import type { Command } from 'commander';
import { dom0EnvironmentOf, withStore } from '../context.js';
import type { Io } from '../io.js';
import { parseEscape, parseInteger } from '../options.js';

interface Options {
  readOnly?: boolean;
  escape: number | 'none';
  deviceId?: number;
}

const DEFAULT_ESCAPE = 0x1d;

const EXAMPLES = `
Examples:
  xenchannel connect db1 org.example.agent                 ^] leaves
  xenchannel connect db1 org.example.agent --read-only     look on
  printf 'ping\\n' | xenchannel connect db1 org.example.agent

With a pipe on stdin, the channel is closed for writing at its end and the rest of the answer is waited for.
`;

export function addConnect(program: Command, io: Io): void {
  program
    .command('connect')
    .argument('<domain>')
    .argument('<name>')
    .description('talk to a channel from this terminal')
    .option('--read-only', 'send nothing')
    .option('--escape <char>', 'what leaves: ^], ^A, ... or none (default: ^])', parseEscape, DEFAULT_ESCAPE)
    .option('--device-id <n>', 'which one, where several channels have the name', parseInteger)
    .addHelpText('after', EXAMPLES)
    .action((domain: string, name: string, options: Options) => runConnect(io, domain, name, options));
}

async function runConnect(io: Io, domain: string, name: string, options: Options): Promise<void> {
  const [{ findHostEnd, openHostEnd }, { join }] = await Promise.all([
    import('../../dom0/open-channel.js'),
    import('../terminal.js'),
  ]);
  const { deviceId, readOnly = false } = options;
  const target = { domain, name, ...(deviceId === undefined ? {} : { deviceId }) };
  const end = await withStore(io, (store) => findHostEnd(store, target, dom0EnvironmentOf(io)));
  const socket = await openHostEnd(end, io.signal);
  const escapeByte = options.escape === 'none' ? undefined : options.escape;
  const onTerminal = io.stdin.isTTY === true;
  const leave = escapeByte === undefined ? 'no key leaves' : `${describeEscape(escapeByte)} leaves`;
  if (onTerminal) io.stderr.write(`connected to ${end.label}${readOnly ? ', read-only' : ''}; ${leave}\r\n`);
  const who = await join(io, socket, { readOnly, escapeByte });
  if (onTerminal) io.stderr.write(who === 'escape' ? '\nleft\n' : '\nclosed by the other side\n');
}

function describeEscape(byte: number): string {
  return byte === 0x7f ? '^?' : `^${String.fromCharCode(byte + 0x40)}`;
}
