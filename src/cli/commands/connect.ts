/** `xenchannel connect`: this terminal, or this pipe, on a channel. */
import type { Command } from 'commander';
import { ChannelError } from '../../base/errors.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import type { Io } from '../io.js';
import { parseBytes, parseEscape, parseInteger, parseSeconds } from '../options.js';

interface Options {
  readOnly?: boolean;
  fromStart?: boolean;
  since?: number;
  force?: boolean;
  quitAfter?: number;
  escape: number | 'none';
  deviceId?: number;
}

const DEFAULT_ESCAPE = 0x1d;

const EXAMPLES = `
Examples:
  xenchannel connect db1 org.example.agent                 ^] leaves
  xenchannel connect db1 org.example.agent --read-only     look on
  xenchannel connect db1 org.example.agent --from-start    all output that is kept, and what comes
  xenchannel connect db1 org.example.agent --force         take the place of another client, who is told
  printf 'ping\\n' | xenchannel connect db1 org.example.agent --quit-after 2

With a pipe on stdin, the channel is closed for writing at its end and the rest of the answer is waited for: until the
other side closes, or with --quit-after until nothing came for so many seconds.

One client writes. While another does, this exits with 4; --read-only looks on without ever being in anybody's way.
`;

export function addConnect(program: Command, io: Io): void {
  program
    .command('connect')
    .argument('<domain>')
    .argument('<name>')
    .description('talk to a channel from this terminal')
    .option('--read-only', 'look on: send nothing, take nothing from the client')
    .option('--from-start', 'begin with the first output that is kept')
    .option('--since <offset>', 'begin at this offset of the output', parseBytes)
    .option('--force', 'send away a client that is writing')
    .option('--quit-after <seconds>', 'leave when stdin has ended and nothing came for so long', parseSeconds)
    .option('--escape <char>', 'what leaves: ^], ^A, ... or none (default: ^])', parseEscape, DEFAULT_ESCAPE)
    .option('--device-id <n>', 'which one, where several channels have the name', parseInteger)
    .addHelpText('after', EXAMPLES)
    .action((domain: string, name: string, options: Options) => runConnect(io, domain, name, options));
}

async function runConnect(io: Io, domain: string, name: string, options: Options): Promise<void> {
  const [{ findHostEnd }, { openDialogue, replacedBy, takenOver }, { join }] = await Promise.all([
    import('../../dom0/open-channel.js'),
    import('../../dom0/dialogue.js'),
    import('../terminal.js'),
  ]);
  const { deviceId, readOnly = false, fromStart = false, force = false, quitAfter: quitAfterMs } = options;
  if (readOnly && force)
    throw new ChannelError('usage-invalid', '--force is for writing: it makes no sense with --read-only');
  const env = dom0EnvironmentOf(io);
  const target = { domain, name, ...(deviceId === undefined ? {} : { deviceId }) };
  const end = await withStore(io, (store) => findHostEnd(store, target, env));
  const startMs = io.clock.now();
  const dialogue = await openDialogue(
    {
      end,
      readOnly,
      since: fromStart ? 'start' : options.since,
      force: force ? { by: whoami(io) } : undefined,
      signal: io.signal,
      onMissed: (bytes) => io.stderr.write(`\r\n[${bytes ?? 'some'} bytes are not kept any more]\r\n`),
    },
    env,
  );
  const escapeByte = options.escape === 'none' ? undefined : options.escape;
  const onTerminal = io.stdin.isTTY === true;
  const leave = escapeByte === undefined ? 'no key leaves' : `${describeEscape(escapeByte)} leaves`;
  const joined = join(io, dialogue, { escapeByte, quitAfterMs });
  // Only now: from here on every key goes to the channel, ^C included.
  if (onTerminal) io.stderr.write(`connected to ${end.label}${readOnly ? ', read-only' : ''}; ${leave}\r\n`);
  const who = await joined;
  const by = who === 'peer-closed' && !readOnly ? await replacedBy(end, startMs, env) : undefined;
  if (by !== undefined) throw takenOver(end, by);
  if (onTerminal) io.stderr.write(who === 'escape' ? '\nleft\n' : '\nclosed by the other side\n');
}

/** What the client is told that is sent away. */
function whoami({ env }: Io): string {
  return `${env['SUDO_USER'] ?? env['USER'] ?? 'somebody'} (process ${process.pid})`;
}

function describeEscape(byte: number): string {
  return byte === 0x7f ? '^?' : `^${String.fromCharCode(byte + 0x40)}`;
}
