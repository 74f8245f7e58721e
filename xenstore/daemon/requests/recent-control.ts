/**
 * What Xen 4.22 answers otherwise to CONTROL: log switches, quotas under their new names, and the highest figures seen.
 * Source: xen:tools/xenstored/control.c, domain.c (domain_get_quota, domain_max_global_acc), core.c (set_trace_switch).
 */
import type { StoreCore } from '../core.js';
import type { Domain } from '../domains.js';
import type { DaemonError } from '../likeness.js';
import { type QuotaName, RECENT_QUOTA_TEXTS } from '../quota.js';
import { atoi, type Request } from '../request.js';
import type { Commands } from './control.js';

const LOG_SWITCHES = ['obj', 'io', 'wrl', 'acc', 'tdb'];

/** Those that differ. `memoryOf` counts what a domain takes. */
export function recentCommands(memoryOf: (core: StoreCore, domain: Domain) => number): Commands {
  return {
    log: { parameters: '[on|off|+<switch>|-<switch>]', run: log },
    quota: {
      parameters: '[set <name> <val>|<domid>|max [-r]]',
      run: (core, request, args) => quota(core, request, args, memoryOf),
    },
    'quota-soft': { parameters: '[set <name> <val>]', run: softQuota },
  };
}

function log(core: StoreCore, request: Request, args: readonly string[]): DaemonError | undefined {
  const [how, ...more] = args;
  if (how === undefined) {
    const lines = LOG_SWITCHES.map((name) => `${name.padEnd(8)}: ${core.logSwitches.has(name) ? 'on' : 'off'}\n`);
    core.reply(request, `Log switch settings:\n${lines.join('')}\0`);
    return undefined;
  }
  if (more.length > 0) return 'EINVAL';
  if (how !== 'on' && how !== 'off') {
    const name = how.slice(1);
    if (!LOG_SWITCHES.includes(name) || !/^[+-]/.test(how)) return 'EINVAL';
    if (how.startsWith('+')) core.logSwitches.add(name);
    else core.logSwitches.delete(name);
  }
  core.acknowledge(request);
  return undefined;
}

function quota(
  core: StoreCore,
  request: Request,
  args: readonly string[],
  memoryOf: (core: StoreCore, domain: Domain) => number,
): DaemonError | undefined {
  const [first, ...more] = args;
  if (first === undefined) return showQuotas(core, request);
  if (first === 'set') return setQuota(core, request, more);
  if (first === 'max') return showMaxima(core, request, more);
  if (more.length > 0) return 'EINVAL';
  const domain = core.domains.find(atoi(first) >>> 0);
  return domain === undefined ? 'ENOENT' : showDomain(core, request, domain, memoryOf(core, domain));
}

function setting(name: string, limit: number, meaning: string): string {
  return `${name.padEnd(17)}: ${String(limit).padStart(8)} ${meaning}\n`;
}

function showQuotas(core: StoreCore, request: Request): undefined {
  const lines = RECENT_QUOTA_TEXTS.map(([wire, name, meaning]) => setting(wire, core.quotas[name], meaning));
  core.reply(request, `Quota settings:\n${lines.join('')}\0`);
}

/** Domains that are known already keep theirs. */
function setQuota(core: StoreCore, request: Request, [wire, value, ...more]: readonly string[]) {
  const limit = value === undefined || more.length > 0 ? 0 : atoi(value);
  const name = RECENT_QUOTA_TEXTS.find(([known]) => known === wire)?.[1];
  if (limit < 1 || name === undefined) return 'EINVAL';
  core.quotas[name] = limit;
  core.acknowledge(request);
  return undefined;
}

function showMaxima(core: StoreCore, request: Request, [option, ...more]: readonly string[]) {
  if (more.length > 0 || (option !== undefined && option !== '-r')) return 'EINVAL';
  if (option === '-r') {
    core.maxima.clear();
    for (const domain of core.domains.all()) domain.resetMaxima();
  }
  const lines = RECENT_QUOTA_TEXTS.map(([wire, name]) => figure(wire, core.maxima.get(name) ?? 0));
  core.reply(request, `Max. seen accounting values:\n${lines.map((line) => `${line}\n`).join('')}\0`);
  return undefined;
}

function figure(name: string, value: number): string {
  return `${name.padEnd(17)}: ${String(value).padStart(8)}`;
}

function showDomain(core: StoreCore, request: Request, domain: Domain, memory: number): undefined {
  domain.noteMaxima();
  const { nodes, watches, transactions, outstanding } = domain;
  const now: Partial<Record<QuotaName, number>> = { nodes, watches, transactions, outstanding, memory };
  const lines = RECENT_QUOTA_TEXTS.map(([wire, name]) => {
    const value = now[name] ?? 0;
    const highest = Math.max(value, domain.maxima.get(name) ?? 0);
    return `${figure(wire, value)} (max ${String(highest).padStart(8)})\n`;
  });
  core.reply(request, `Domain ${domain.domid}:\n${lines.join('')}\0`);
}

function softQuota(core: StoreCore, request: Request, args: readonly string[]): DaemonError | undefined {
  const [set, name, value, ...more] = args;
  if (set === undefined) {
    core.reply(
      request,
      `Quota settings:\n${setting('memory', core.softMemoryBytes, 'Total Xenstore memory per domain')}\0`,
    );
    return undefined;
  }
  const limit = value === undefined || more.length > 0 ? 0 : atoi(value);
  if (set !== 'set' || name !== 'memory' || limit < 1) return 'EINVAL';
  core.softMemoryBytes = limit;
  core.acknowledge(request);
  return undefined;
}
