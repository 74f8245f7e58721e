/** `xenchannel recv`: a channel's output into a file or to stdout. */
import type { Command } from 'commander';
import { dom0EnvironmentOf, withStore } from '../context.js';
import { formatExactBytes } from '../human.js';
import type { Io } from '../io.js';
import { parseBytes, parseInteger, parseSeconds } from '../options.js';
import { printWarnings } from '../output.js';
import { ProgressLine } from '../progress.js';

interface Options {
  bytes?: number;
  timeout?: number;
  deviceId?: number;
}

const EXAMPLES = `
Examples:
  xenchannel recv db1 org.example.dump dump.bin --bytes 1M --timeout 60
  xenchannel recv db1 org.example.log --timeout 10

It ends after --bytes, when the channel is closed, or when the time is over: with --bytes that exits with 6 and what came
is kept, without it is the regular end. It takes what had been kept for the next client. While another client is there it
exits with 4: 'xenchannel connect --read-only' looks on.
`;

export function addRecv(program: Command, io: Io): void {
  program
    .command('recv')
    .argument('<domain>')
    .argument('<name>')
    .argument('[file]', 'default: stdout')
    .description('receive what a guest says')
    .option('--bytes <n>', 'so many, as 4096, 64K or 1M', parseBytes)
    .option('--timeout <seconds>', 'not longer than this (default: none)', parseSeconds)
    .option('--device-id <n>', 'which one, where several channels have the name', parseInteger)
    .addHelpText('after', EXAMPLES)
    .action((domain: string, name: string, file: string | undefined, options: Options) =>
      runRecv(io, { domain, name, file }, options),
    );
}

type Target = { domain: string; name: string; file: string | undefined };

async function runRecv(io: Io, { domain, name, file }: Target, options: Options): Promise<void> {
  const [{ findHostEnd }, { receive }, { constants, open }] = await Promise.all([
    import('../../dom0/open-channel.js'),
    import('../../dom0/receive.js'),
    import('node:fs/promises'),
  ]);
  const { bytes, timeout: timeoutMs, deviceId } = options;
  const env = dom0EnvironmentOf(io);
  const target = { domain, name, ...(deviceId === undefined ? {} : { deviceId }) };
  const end = await withStore(io, (store) => findHostEnd(store, target, env));
  // Not emptied before something has come instead.
  const handle = file === undefined ? undefined : await open(file, constants.O_WRONLY | constants.O_CREAT);
  let emptied = false;
  const empty = async (): Promise<void> => {
    if (!emptied && (await handle?.stat())?.isFile() === true) await handle?.truncate();
    emptied = true;
  };
  const progress = new ProgressLine(io, bytes);
  let done = 0;
  const write = async (piece: Uint8Array): Promise<void> => {
    if (!emptied) await empty();
    if (handle !== undefined) await handle.writeFile(piece);
    else if (!io.stdout.write(piece)) await drained(io.stdout);
    done += piece.length;
    if (handle !== undefined) progress.update(done);
  };
  try {
    const result = await receive({ end, bytes, timeoutMs, signal: io.signal, write }, env);
    await empty();
    progress.clear();
    const { surplusBytes, receivedBytes } = result;
    if (surplusBytes > 0) printWarnings(io, [`${surplusBytes} bytes behind the last one came with it and are lost`]);
    if (io.stderr.isTTY === true && handle !== undefined) {
      io.stderr.write(`${formatExactBytes(receivedBytes)} received\n`);
    }
  } finally {
    progress.clear();
    await handle?.close();
  }
}

function drained(stdout: unknown): Promise<void> {
  const { once } = stdout as { once?(event: 'drain', listener: () => void): unknown };
  return once === undefined ? Promise.resolve() : new Promise((settle) => once.call(stdout, 'drain', settle));
}
