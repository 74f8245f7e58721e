/** `xenchannel send`: a file or stdin into a channel. */
import type { Command } from 'commander';
import { ChannelError } from '../../base/errors.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import { formatExactBytes } from '../human.js';
import type { Io } from '../io.js';
import { parseInteger, parseSeconds } from '../options.js';
import { ProgressLine } from '../progress.js';

interface Options {
  waitConsumed?: boolean;
  timeout?: number;
  deviceId?: number;
}

const EXAMPLES = `
Examples:
  xenchannel send db1 org.example.config /etc/db1.conf --wait-consumed --timeout 30
  tar c . | xenchannel send db1 org.example.files

Without --wait-consumed it ends when the daemon has everything, who delivers it also when nobody is connected any more.
What the guest says meanwhile goes to stdout. A timeout exits with 6 and says how many bytes were left. It works on a
channel with --connection pty, too, as long as nobody has the terminal open; a channel with --connect has its client.
`;

export function addSend(program: Command, io: Io): void {
  program
    .command('send')
    .argument('<domain>')
    .argument('<name>')
    .argument('[file]', 'default: stdin')
    .description('send a file or stdin through a channel')
    .option('--wait-consumed', 'until the guest has taken the last byte')
    .option('--timeout <seconds>', 'for the whole of it (default: none, with --wait-consumed 60)', parseSeconds)
    .option('--device-id <n>', 'which one, where several channels have the name', parseInteger)
    .addHelpText('after', EXAMPLES)
    .action((domain: string, name: string, file: string | undefined, options: Options) =>
      runSend(io, { domain, name, file }, options),
    );
}

const DEFAULT_CONSUMED_MS = 60_000;

type Target = { domain: string; name: string; file: string | undefined };

async function runSend(io: Io, { domain, name, file }: Target, options: Options): Promise<void> {
  const [{ findHostEnd }, { send }, { open }] = await Promise.all([
    import('../../dom0/open-channel.js'),
    import('../../dom0/send.js'),
    import('node:fs/promises'),
  ]);
  const { waitConsumed = false, deviceId } = options;
  const timeoutMs = options.timeout ?? (waitConsumed ? DEFAULT_CONSUMED_MS : undefined);
  const handle = file === undefined ? undefined : await open(file, 'r');
  try {
    const env = dom0EnvironmentOf(io);
    const target = { domain, name, ...(deviceId === undefined ? {} : { deviceId }) };
    const end = await withStore(io, (store) => findHostEnd(store, target, env));
    const stat = await handle?.stat();
    if (stat?.isDirectory() === true)
      throw new ChannelError('usage-invalid', `${file} is a directory: it cannot be sent`, { file: file ?? null });
    const progress = new ProgressLine(io, stat?.isFile() === true ? stat.size : undefined);
    const source = handle?.createReadStream({ autoClose: false }) ?? io.stdin;
    const result = await send(
      {
        end,
        source: source as AsyncIterable<Uint8Array>,
        waitConsumed,
        timeoutMs,
        signal: io.signal,
        onOutput: (bytes) => void io.stdout.write(bytes),
        onProgress: (bytes) => progress.update(bytes),
      },
      env,
    ).finally(() => progress.clear());
    const verb = result.consumed ? 'taken by the guest' : 'sent';
    if (io.stderr.isTTY === true) io.stderr.write(`${formatExactBytes(result.sentBytes)} ${verb}\n`);
  } finally {
    await handle?.close();
  }
}
