/** CONTROL of Xen 4.22, written down from xen:tools/xenstored/control.c and domain.c, and once compared with that daemon. */
import { describe, expect, it } from 'vitest';
import { Conversation } from './conversation.js';

function newHost() {
  const conversation = new Conversation({ like: 'xenstored' }).introduce(5);
  return { conversation, control: (text: string) => conversation.ask('dom0', `CONTROL ${text}`) };
}

/** The lines of a report. */
function linesOf([answer = '']: readonly string[]): string[] {
  expect(answer).toMatch(/^CONTROL .*\n\|$/s);
  return answer.slice('CONTROL '.length, -2).split('\n');
}

describe('CONTROL like the xenstored of Xen 4.22', () => {
  it('lists its commands', () => {
    expect(linesOf(newHost().control('help|'))).toEqual([
      'check           ',
      // '|' is NUL in this notation, and here a bar.
      'log             [on|off|+<switch>|-<switch>]',
      'live-update     [-c <cmdline>] [-F] [-t <timeout>] [-v <version>] <file>',
      '    Default timeout is 60 seconds, default version is 2.',
      'logfile         <file>',
      'memreport       [<file>]',
      'print           <string>',
      'quota           [set <name> <val>|<domid>|max [-r]]',
      'quota-soft      [set <name> <val>]',
      'help            ',
    ]);
  });

  it('keeps log switches', () => {
    const { control } = newHost();
    expect(linesOf(control('log|'))).toEqual([
      'Log switch settings:',
      'obj     : on',
      'io      : on',
      'wrl     : off',
      'acc     : off',
      'tdb     : off',
    ]);
    expect(control('log|+acc|')).toEqual(['CONTROL OK|']);
    expect(control('log|-io|')).toEqual(['CONTROL OK|']);
    expect(control('log|on|')).toEqual(['CONTROL OK|']);
    for (const wrong of ['acc', '+none', '+', 'on|off']) expect(control(`log|${wrong}|`)).toEqual(['ERROR EINVAL|']);
    expect(linesOf(control('log|')).slice(1)).toEqual([
      'obj     : on',
      'io      : off',
      'wrl     : off',
      'acc     : on',
      'tdb     : off',
    ]);
  });

  it('shows and sets quotas under their new names', () => {
    const { control } = newHost();
    expect(control('quota|set|node-permissions|7|')).toEqual(['CONTROL OK|']);
    for (const wrong of ['permissions|7', 'nodes|0', 'nodes', 'none|1', 'nodes|1|2']) {
      expect(control(`quota|set|${wrong}|`)).toEqual(['ERROR EINVAL|']);
    }
    expect(linesOf(control('quota|'))).toEqual([
      'Quota settings:',
      'nodes            :     1000 Nodes per domain',
      'watches          :      128 Watches per domain',
      'outstanding      :       20 Outstanding requests per domain',
      'memory           :  2621440 Total Xenstore memory per domain',
      'transactions     :       10 Active transactions per domain',
      'transaction-nodes:     1024 Max. number of accessed nodes per transaction',
      'node-permissions :        7 Max. number of permissions per node',
      'path-max         :     2048 Max. length of a node path',
      'node-size        :     2048 Max. size of a node',
    ]);
    expect(control('quota-soft|set|memory|5|')).toEqual(['CONTROL OK|']);
    expect(control('quota-soft|set|nodes|5|')).toEqual(['ERROR EINVAL|']);
    expect(linesOf(control('quota-soft|'))).toEqual([
      'Quota settings:',
      'memory           :        5 Total Xenstore memory per domain',
    ]);
  });

  it('shows what a domain has and the most it has had', () => {
    const { conversation, control } = newHost();
    conversation.ask('dom0', 'WRITE /local/domain/5|');
    conversation.ask('dom0', 'SET_PERMS /local/domain/5|n5|');
    for (const request of ['WATCH a|t|', 'WATCH b|t|', 'UNWATCH a|t|', 'WRITE a|12345', 'RM a|', 'SET_PERMS |n5|r1|']) {
      conversation.ask('dom5', request);
    }
    conversation.ask('dom5', 'TRANSACTION_START |');
    conversation.ask('dom5', 'READ@1 a|');
    conversation.ask('dom5', 'TRANSACTION_END@1 F|');
    const nodeBytes = 16 + 8 + '/local/domain/5'.length;
    const lines = linesOf(control('quota|5|'));
    expect(lines.filter((line) => !line.startsWith('memory'))).toEqual([
      'Domain 5:',
      'nodes            :        1 (max        2)',
      'watches          :        1 (max        2)',
      'outstanding      :        0 (max        0)',
      'transactions     :        0 (max        1)',
      'transaction-nodes:        0 (max        2)',
      'node-permissions :        0 (max        2)',
      'path-max         :        0 (max        1)',
      'node-size        :        0 (max       29)',
    ]);
    expect(lines).toContainEqual(
      expect.stringMatching(`^memory           : +${nodeBytes + '/local/domain/5/bt'.length} `),
    );
    expect(linesOf(control('quota|max|'))).toContain('watches          :        2');
    expect(linesOf(control('quota|max|-r|'))).toContain('watches          :        1');
    expect(linesOf(control('quota|5|'))).toContain('watches          :        1 (max        1)');
    for (const wrong of ['quota|max|x|', 'quota|max|-r|x|', 'quota|5|6|'])
      expect(control(wrong)).toEqual(['ERROR EINVAL|']);
    expect(control('quota|9|')).toEqual(['ERROR ENOENT|']);
  });
});
