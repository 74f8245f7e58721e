/** `xenchannel detach`: takes a channel off, with the closing handshake. */
import type { Command } from 'commander';
import { dom0EnvironmentOf, withStore } from '../context.js';
import type { Io } from '../io.js';
import { parseInteger, parseSeconds } from '../options.js';
import { cell, printJson, printLine, printWarnings } from '../output.js';

interface Options {
  deviceId?: number;
  force?: boolean;
  forget?: boolean;
  timeout?: number;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  xenchannel detach db1 org.qemu.guest_agent.0
  xenchannel detach 5 org.example.agent --timeout 60     a busy guest
  xenchannel detach 5 org.example.agent --force          a guest that does not answer

The id of a domain that is gone removes what it has left of the channel in xenstore.

  xenchannel detach db1 org.example.agent --forget       only the record: the domain need not run

A channel that was attached with --persist does not come back either. With --forget <domain> is a name or a uuid, and a
channel that is attached stays until its domain goes.

A detach that was interrupted or ran out of time has removed nothing; repeat it.
`;

export function addDetach(program: Command, io: Io): void {
  program
    .command('detach')
    .argument('<domain>')
    .argument('<name>')
    .description('take a channel off a running domain')
    .option('--force', 'do not wait for the guest')
    .option('--forget', 'only forget that it shall come back')
    .option('--timeout <seconds>', 'how long guest and daemon have to close (default: 10)', parseSeconds)
    .option('--device-id <n>', 'which one, where several channels have the name', parseInteger)
    .option('--json', 'answer in JSON')
    .addHelpText('after', EXAMPLES)
    .action((domain: string, name: string, options: Options) => runDetach(io, domain, name, options));
}

async function runDetach(io: Io, domain: string, name: string, options: Options): Promise<void> {
  const { detachAndForget, forgetChannel } = await import('../../dom0/persist.js');
  const { force = false, forget = false, timeout, deviceId, json = false } = options;
  if (forget) {
    const key = await forgetChannel(dom0EnvironmentOf(io), domain, name);
    if (json) printJson(io, { name, ...key, forgotten: true });
    else printLine(io, `forgot ${cell(name)} of domain ${cell(domain)}: it will not come back`);
    return;
  }
  const request = {
    domain,
    name,
    force,
    signal: io.signal,
    ...(timeout === undefined ? {} : { timeoutMs: timeout }),
    ...(deviceId === undefined ? {} : { deviceId }),
  };
  const result = await withStore(io, (store) => detachAndForget(store, request, dom0EnvironmentOf(io)));
  if (json) {
    printJson(io, result);
    return;
  }
  printWarnings(io, result.warnings);
  const who = cell(result.domain.name ?? result.domid);
  printLine(io, `detached ${cell(name)} from domain ${who}${result.forgotten ? '; it will not come back' : ''}`);
}
