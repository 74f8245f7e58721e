/** `xenchannel wait`: until a channel is connected, opened by the guest, or emptied by it. */
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { WAIT_GOALS, type WaitGoal } from '../../dom0/wait-goals.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import type { Io } from '../io.js';
import { parseInteger, parseSeconds } from '../options.js';
import { cell, printJson, printLine } from '../output.js';

interface Options {
  for: WaitGoal;
  timeout?: number;
  deviceId?: number;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  xenchannel wait db1 org.example.agent --for connected
  xenchannel wait db1 org.example.agent --for guest-open --timeout 120
  xenchannel wait db1 org.example.config --for consumed

connected   both ends of the ring are; says nothing of programs
guest-open  the guest claims that a program holds the channel open
consumed    the guest has taken all that was sent to it

Exits with 6 when the time is over; nothing has been changed then.
`;

export function addWait(program: Command, io: Io): void {
  program
    .command('wait')
    .argument('<domain>')
    .argument('<name>')
    .description('wait for a state of a channel')
    .requiredOption('--for <state>', WAIT_GOALS.join(', '), parseGoal)
    .option('--timeout <seconds>', 'how long (default: 60)', parseSeconds)
    .option('--device-id <n>', 'which one, where several channels have the name', parseInteger)
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((domain: string, name: string, options: Options) => runWait(io, domain, name, options));
}

function parseGoal(text: string): WaitGoal {
  const goal = WAIT_GOALS.find((known) => known === text);
  if (goal === undefined) throw new InvalidArgumentError(`It must be one of ${WAIT_GOALS.join(', ')}.`);
  return goal;
}

async function runWait(io: Io, domain: string, name: string, options: Options): Promise<void> {
  const { waitFor } = await import('../../dom0/wait.js');
  const { for: goal, timeout: timeoutMs, deviceId, json = false } = options;
  const request = { domain, name, deviceId, goal, timeoutMs, signal: io.signal };
  const result = await withStore(io, (store) => waitFor(store, request, dom0EnvironmentOf(io)));
  if (json) printJson(io, result);
  else printLine(io, `${cell(name)} of domain ${result.domid}: ${goal} after ${(result.waitedMs / 1000).toFixed(1)} s`);
}
