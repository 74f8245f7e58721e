/**
 * CONTROL: what an administrator may ask of the daemon itself, as Xen 4.17 has it; recent-control.ts has what 4.22 changed.
 * Source: xen:tools/xenstore/xenstored_control.c. Its logfile and memreport need files and are refused here.
 */
import type { StoreCore } from '../core.js';
import type { Domain } from '../domains.js';
import type { DaemonError } from '../likeness.js';
import { copyBytes, eachRecord } from '../memory.js';
import { QUOTA_TEXTS, type QuotaName } from '../quota.js';
import { atoi, type Request } from '../request.js';
import { watchBytes } from '../watches.js';
import { recentCommands } from './recent-control.js';

export interface Command {
  readonly parameters: string;
  run(core: StoreCore, request: Request, args: readonly string[]): DaemonError | undefined;
}

export type Commands = Readonly<Record<string, Command>>;

const COMMANDS: Commands = {
  check: {
    parameters: '',
    run: (core, request, args) => (args.length === 0 ? acknowledge(core, request) : 'EINVAL'),
  },
  log: {
    parameters: 'on|off',
    run: (core, request, [how, ...more]) =>
      (how === 'on' || how === 'off') && more.length === 0 ? acknowledge(core, request) : 'EINVAL',
  },
  'live-update': {
    parameters: '[-c <cmdline>] [-F] [-t <timeout>] <file>\n    Default timeout is 60 seconds.',
    run: liveUpdate,
  },
  logfile: {
    parameters: '<file>',
    run: () => 'EINVAL',
  },
  memreport: { parameters: '[<file>]', run: () => 'EINVAL' },
  print: {
    parameters: '<string>',
    run: (core, request, args) => (args.length === 1 ? acknowledge(core, request) : 'EINVAL'),
  },
  quota: { parameters: '[set <name> <val>|<domid>]', run: quota },
  'quota-soft': {
    parameters: '[set <name> <val>]',
    run: softQuota,
  },
  help: { parameters: '', run: (core, request, args) => help(core, request, args, COMMANDS, (name) => `${name}\t`) },
};

/** Of Xen 4.22; in the same order. */
const RECENT_COMMANDS: Commands = {
  ...COMMANDS,
  ...recentCommands(memoryOf),
  'live-update': {
    parameters:
      '[-c <cmdline>] [-F] [-t <timeout>] [-v <version>] <file>\n    Default timeout is 60 seconds, default version is 2.',
    run: liveUpdate,
  },
  help: {
    parameters: '',
    run: (core, request, args) => help(core, request, args, RECENT_COMMANDS, (name) => `${name.padEnd(15)} `),
  },
};

export function control(core: StoreCore, request: Request): DaemonError | undefined {
  const [name, ...args] = request.strings();
  const commands = core.rules.features ? RECENT_COMMANDS : COMMANDS;
  const command = name === undefined || !Object.hasOwn(commands, name) ? undefined : commands[name];
  return command === undefined ? 'EINVAL' : command.run(core, request, args);
}

function acknowledge(core: StoreCore, request: Request): undefined {
  core.acknowledge(request);
}

function help(
  core: StoreCore,
  request: Request,
  args: readonly string[],
  commands: Commands,
  column: (name: string) => string,
): DaemonError | undefined {
  if (args.length > 0) return 'EINVAL';
  const lines = Object.entries(commands).map(([name, { parameters }]) => `${column(name)}${parameters}\n`);
  core.reply(request, `${lines.join('')}\0`);
  return undefined;
}

/** There is no daemon to replace this one by: only the answers of one that is not being updated. */
function liveUpdate(core: StoreCore, request: Request, [option, ...more]: readonly string[]): DaemonError | undefined {
  if (option === '-a' && more.length === 0) core.reply(request, 'No live-update session active.\0');
  else if ((option === '-s' && isStart(core, more)) || (option === '-c' && more.length === 1)) {
    core.reply(request, 'Not in live-update session.\0');
  } else return 'EINVAL';
  return undefined;
}

function isStart(core: StoreCore, words: readonly string[]): boolean {
  const withValue = core.rules.features ? ['-t', '-v'] : ['-t'];
  return words.every((word, i) => word === '-F' || withValue.includes(word) || withValue.includes(words[i - 1] ?? ''));
}

function quota(core: StoreCore, request: Request, args: readonly string[]): DaemonError | undefined {
  const [first, name, value, ...more] = args;
  if (first === undefined) return showQuotas(core, request);
  if (first !== 'set') return name === undefined ? showDomain(core, request, atoi(first) >>> 0) : 'EINVAL';
  const limit = value === undefined || more.length > 0 ? 0 : atoi(value);
  const known = QUOTA_TEXTS.find(([known]) => known === name)?.[0];
  if (limit < 1 || known === undefined) return 'EINVAL';
  core.quotas[known] = limit;
  return acknowledge(core, request);
}

function quotaLine(name: string, limit: number, meaning: string): string {
  return `${name.padEnd(17)}: ${String(limit).padStart(8)} ${meaning}\n`;
}

function showQuotas(core: StoreCore, request: Request): DaemonError | undefined {
  const line = ([name, meaning]: readonly [QuotaName, string]) => quotaLine(name, core.quotas[name], meaning);
  core.reply(request, `Quota settings:\n${QUOTA_TEXTS.map(line).join('')}\0`);
  return undefined;
}

function softQuota(core: StoreCore, request: Request, args: readonly string[]): DaemonError | undefined {
  const [set, name, value, ...more] = args;
  if (set !== undefined) {
    const limit = value === undefined || more.length > 0 ? 0 : atoi(value);
    if (set !== 'set' || name !== 'memory' || limit < 1) return 'EINVAL';
    core.softMemoryBytes = limit;
    return acknowledge(core, request);
  }
  const line = quotaLine('memory', core.softMemoryBytes, 'Total Xenstore memory per domain (warning level)');
  core.reply(request, `Quota settings:\n${line}\0`);
  return undefined;
}

function showDomain(core: StoreCore, request: Request, domid: number): DaemonError | undefined {
  const domain = core.domains.find(domid);
  if (domain === undefined) return 'ENOENT';
  const figures: ReadonlyArray<readonly [string, number]> = [
    ['nodes', domain.nodes],
    ['watches', domain.watches],
    ['transactions', domain.transactions],
    ['outstanding', domain.outstanding],
    ['memory', memoryOf(core, domain)],
  ];
  const lines = figures.map(([name, figure]) => `${name.padEnd(16)}: ${String(figure).padStart(8)}\n`);
  core.reply(request, `Domain ${domid}:\n${lines.join('')}\0`);
  return undefined;
}

/** Dom0's own is not limited, and so not kept up to date. */
function memoryOf(core: StoreCore, domain: Domain): number {
  if (domain.domid !== 0) return domain.memory;
  let total = 0;
  eachRecord(core, core.tree.root, (owner, bytes) => {
    if (owner === 0) total += bytes;
  });
  for (const connection of core.connections) {
    if (!connection.privileged) continue;
    for (const { path, token } of connection.watches.values()) total += watchBytes(path, token);
    for (const transaction of connection.transactions.values()) {
      for (const node of transaction.nodes.values()) total += copyBytes(core, transaction, node);
    }
  }
  return total;
}
