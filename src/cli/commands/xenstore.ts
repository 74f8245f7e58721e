/** `xenchannel xenstore`: the genuine xenstore utilities' modes, for machines that have only Node.js. */
import type { Command } from 'commander';
import { ExitStatus } from '../exit-status.js';
import type { Io } from '../io.js';

const MODES = `
Modes:
  ls [-f] [-p] [path...]             the tree: whole paths, permissions
  read [-p] [-R] key...              values: with their key, unescaped
  write [-R] key value...            all or nothing; value may hold \\xNN, \\NNN, \\t, \\n, \\r
  list [-p] key...                   names of the children: whole paths
  rm [-t] key...                     with everything below: empty parents, too
  exists key...                      only the exit code says it
  chmod [-u] [-r] key perm...        n5 r0 ...: parents, too; children, too
  watch [-n count] key...            paths that change
  mkdir key...                       (the genuine program has no such mode)

Output, options and exit codes are those of xenstore(1) of xenstore-utils 4.17: 0 done, 1 not.

Examples:
  xenchannel xenstore ls -fp /local/domain/5
  xenchannel xenstore write /tool/x 'two\\nlines'
`;

export function addXenstore(program: Command, io: Io): void {
  program
    .command('xenstore')
    .description('read and change xenstore as xenstore(1) does')
    .usage('<mode> [options] ...')
    .argument('[words...]')
    .allowUnknownOption()
    .passThroughOptions()
    .helpOption(false)
    .addHelpText('after', MODES)
    .action(async (words: string[], _options: unknown, command: Command) => {
      if (words[0] === '--help' || words[0] === '-h') {
        command.outputHelp();
        return;
      }
      const { xenstore } = await import('../xenstore-utils/program.js');
      const status = await xenstore(io, words);
      if (status !== 0) throw new ExitStatus(status);
    });
}
