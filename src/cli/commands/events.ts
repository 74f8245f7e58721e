/** `xenchannel events`: what happens to channels, as it happens. */
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { ChannelError } from '../../base/errors.js';
import type { DaemonEvent } from '../../dom0/follow-events.js';
import { dom0EnvironmentOf, withStore } from '../context.js';
import type { Io } from '../io.js';
import { parseSeconds } from '../options.js';
import { cell, printLine } from '../output.js';

interface Options {
  since?: number;
  count?: number;
  timeout?: number;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  xenchannel events
  xenchannel events db1 --json
  xenchannel events --since 0 --json            also what the daemon remembers (its last 1024)
  xenchannel events db1 --count 1 --timeout 60  until something happens; exits with 6 when nothing does

It goes on until it is interrupted or the daemon stops.
`;

export function addEvents(program: Command, io: Io): void {
  program
    .command('events')
    .argument('[domain]')
    .description('show what happens to channels, as it happens')
    .option('--since <id>', 'begin behind the event with this id', parseId)
    .option('--count <n>', 'end after so many events', parseId)
    .option('--timeout <seconds>', 'end after this time', parseSeconds)
    .option('--json', 'one JSON object in each line')
    .addHelpText('after', EXAMPLES)
    .action((domain: string | undefined, options: Options) => runEvents(io, domain, options));
}

/** Ids have more digits than other numbers here: they count on from the time at which the daemon started. */
function parseId(text: string): number {
  const id = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(id)) throw new InvalidArgumentError('It must be a whole number.');
  return id;
}

/** Of the stream itself: no events. */
const NOT_COUNTED = new Set(['listening', 'missed']);

async function runEvents(io: Io, domain: string | undefined, options: Options): Promise<void> {
  const [{ followEvents }, { resolveDomain }] = await Promise.all([
    import('../../dom0/follow-events.js'),
    import('../../dom0/domains.js'),
  ]);
  const { since, count, timeout: timeoutMs, json = false } = options;
  const found = domain === undefined ? undefined : await withStore(io, (store) => resolveDomain(store, domain));
  const over = new AbortController();
  const signal = AbortSignal.any([io.signal, over.signal]);
  const timer = timeoutMs === undefined ? undefined : io.clock.after(timeoutMs, () => over.abort());
  let counted = 0;
  try {
    for await (const event of followEvents(dom0EnvironmentOf(io), { domid: found?.domid, since, signal })) {
      if (json) printLine(io, JSON.stringify(event));
      else if (event.type !== 'listening') printLine(io, describeEvent(event));
      if (!NOT_COUNTED.has(event.type)) counted++;
      if (count !== undefined && counted >= count) return;
    }
  } catch (error) {
    // Interrupting it is how it ends.
    if (io.signal.aborted) return;
    if (!over.signal.aborted) throw error;
  } finally {
    timer?.cancel();
  }
  if (count === undefined) return;
  const [code, why] = over.signal.aborted
    ? (['wait-timeout', `within ${(timeoutMs ?? 0) / 1000} s`] as const)
    : (['channel-closed', 'before the daemon stopped'] as const);
  throw new ChannelError(code, `${counted} of ${count} events came ${why}`, { counted, count });
}

const SUBJECT = new Set(['id', 'at', 'type', 'domid', 'uuid', 'deviceId', 'name']);

/** One line: when, what, where, and the rest as `key=value`. */
export function describeEvent(event: DaemonEvent): string {
  const { at, type, domid, deviceId, name } = event;
  if (type === 'missed') {
    const { count } = event;
    return typeof count === 'number' ? `${count} events were missed` : 'earlier events are not known any more';
  }
  const rest = Object.entries(event)
    .filter(([key]) => !SUBJECT.has(key))
    .map(
      ([key, value]) => `${cell(key, 40)}=${cell(typeof value === 'object' ? JSON.stringify(value) : String(value))}`,
    );
  const where =
    typeof domid === 'number' ? `${domid}/${cell(Number(deviceId))} ${cell(name as string | null)}` : 'daemon';
  return [cell(at as string), cell(type, 40).padEnd(16), where, ...rest].join('  ').trimEnd();
}
