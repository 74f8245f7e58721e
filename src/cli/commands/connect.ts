/** `xenchannel connect`: this terminal, or this pipe, on a channel. */
import type { Socket } from 'node:net';
import type { Command } from 'commander';
import { ChannelError } from '../../base/errors.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import type { Io } from '../io.js';
import { parseBytes, parseEscape, parseInteger, parseSeconds } from '../options.js';
import type { JoinEnd } from '../terminal.js';

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
/** A daemon that restarts is back within a second; an upgrade takes a few. */
const RECONNECT_MS = 30_000;
const RECONNECT_PAUSE_MS = 250;
/** Of one session: somebody who hangs up again and again means it. */
const MAX_RECONNECTS = 20;

const EXAMPLES = `
Examples:
  xenchannel connect db1 org.example.agent                 ^] leaves
  xenchannel connect db1 org.example.agent --read-only     look on
  xenchannel connect db1 org.example.agent --from-start    all output that is kept, and what comes
  xenchannel connect db1 org.example.agent --force         take the place of another client, who is told
  printf 'ping\\n' | xenchannel connect db1 org.example.agent --quit-after 2

On a terminal a restart of the daemon is survived: it is waited for and said.

With a pipe on stdin, the channel is closed for writing at its end and the rest of the answer is waited for: until the
other side closes, or with --quit-after until nothing came for so many seconds. If it closes before it has taken all of
the input, this exits with 8.

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
  const first = {
    end,
    readOnly,
    since: fromStart ? ('start' as const) : options.since,
    force: force ? { by: whoami(io) } : undefined,
    signal: io.signal,
    onMissed: (bytes: number | undefined) =>
      void io.stderr.write(`\r\n[${bytes ?? 'some'} bytes are not kept any more]\r\n`),
  };
  let dialogue = await openDialogue(first, env);
  const escapeByte = options.escape === 'none' ? undefined : options.escape;
  const onTerminal = io.stdin.isTTY === true;
  const leave = escapeByte === undefined ? 'no key leaves' : `${describeEscape(escapeByte)} leaves`;
  let joined = join(io, dialogue, { escapeByte, quitAfterMs });
  // Only now: from here on every key goes to the channel, ^C included.
  if (onTerminal) io.stderr.write(`connected to ${end.label}${readOnly ? ', read-only' : ''}; ${leave}\r\n`);
  let who = await joined;
  for (let times = 1; who === 'peer-closed' || who === 'cut-off'; times++) {
    if (readOnly) break;
    const by = await replacedBy(end, startMs, env);
    if (by !== undefined) throw takenOver(end, by);
    if (!onTerminal || end.server !== 'native' || times > MAX_RECONNECTS) break;
    // What it had asked for is done; what comes now is what comes next.
    const again = { ...first, since: undefined, force: undefined };
    const reopened = await reopen(
      io,
      () => withStore(io, (store) => findHostEnd(store, target, env)),
      () => openDialogue(again, env),
    );
    if (reopened === undefined) break;
    dialogue = reopened;
    joined = join(io, dialogue, { escapeByte, quitAfterMs });
    io.stderr.write('[connected again]\r\n');
    who = await joined;
  }
  if (onTerminal) io.stderr.write(who === 'escape' ? '\nleft\n' : '\nclosed by the other side\n');
  else checkSent(io, dialogue.writer, { who, label: end.label });
}

/** A pipe that is not through yet loses what nobody takes any more. */
function checkSent(
  { stdin }: Io,
  writer: Socket | undefined,
  { who, label }: { readonly who: JoinEnd; readonly label: string },
): void {
  if (writer === undefined || who === 'quiet') return;
  const unsentBytes = writer.writableLength + (stdin.readableLength ?? 0);
  if (unsentBytes === 0 && who !== 'cut-off') return;
  throw new ChannelError(
    'channel-closed',
    `${label} was closed by the other side before it had taken all of the input`,
    { unsentBytes },
  );
}

/**
 * As long as the channel is there and a daemon may come back: then it restarts, and the channel is what it was. undefined:
 * it is over.
 */
async function reopen<T>(io: Io, isThere: () => Promise<unknown>, open: () => Promise<T>): Promise<T | undefined> {
  const endMs = io.clock.now() + RECONNECT_MS;
  let said = false;
  while (io.clock.now() < endMs && !io.signal.aborted) {
    await new Promise<void>((settle) => io.clock.after(RECONNECT_PAUSE_MS, settle));
    try {
      await isThere();
      return await open();
    } catch (error) {
      if (!(error instanceof ChannelError) || error.code !== 'daemon-unreachable') return undefined;
    }
    if (!said) io.stderr.write(`\r\n[the daemon has gone; for ${RECONNECT_MS / 1000} s it may come back]\r\n`);
    said = true;
  }
  return undefined;
}

/** What the client is told that is sent away. */
function whoami({ env }: Io): string {
  return `${env['SUDO_USER'] ?? env['USER'] ?? 'somebody'} (process ${process.pid})`;
}

function describeEscape(byte: number): string {
  return byte === 0x7f ? '^?' : `^${String.fromCharCode(byte + 0x40)}`;
}
