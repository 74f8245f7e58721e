/** The script language itself: what it means, and that a wrong answer is noticed. */
import { describe, expect, it } from 'vitest';
import { parseDifferences } from './differences.js';
import { foldOutcome, formatBytes, parseBytes, splitWords } from './notation.js';
import { OurDaemon } from './peers/ours.js';
import { describeDifference, type Outcome, runCase } from './run-case.js';
import { type Case, parseScript, rewriteScript, type Step } from './script.js';

describe('bytes in a script', () => {
  it.each([
    ['"a\\0b"', Buffer.from('a\0b')],
    ['"\\xff\\x0a"', Buffer.from([0xff, 0x0a])],
    ['/{ab*3}c', Buffer.from('/abababc')],
    ['"{\\0*4}"', Buffer.alloc(4)],
    ['"say \\"x\\" \\{\\}"', Buffer.from('say "x" {}')],
    ['""', Buffer.alloc(0)],
  ])('%s mean what they say', (word, bytes) => expect(parseBytes(word)).toEqual(bytes));

  it.each(['', 'plain', 'a\0b\0', 'x'.repeat(2000), '"quoted" \\ {braces}', '\xff\x00\x7f\n', '\0'.repeat(100)])(
    'are read back as they were written: %j',
    (text) => {
      const bytes = Buffer.from(text, 'latin1');
      expect(parseBytes(formatBytes(bytes))).toEqual(bytes);
    },
  );

  it('keep a quoted word with blanks together', () =>
    expect(splitWords('WRITE "/a b" "c \\" d"')).toEqual(['WRITE', '"/a b"', '"c \\" d"']));

  it('fold equal answers', () => expect(foldOutcome(['OK', 'OK', 'ENOSPC'])).toBe('OK *2 ; ENOSPC'));
});

const WRONG = `
== three mistakes
dom0: WRITE /a 1 => EACCES
dom0.b: WATCH /a t => OK ; event /a t
dom0: WRITE /a 2 => OK
dom0: READ /a => "3"
`;

async function answersOf(test: Case): Promise<Map<Step, Outcome>> {
  const peer = await OurDaemon.start('xenstored-4.17', 'sockets');
  try {
    return await runCase(peer, test);
  } finally {
    await peer.close();
  }
}

describe('a script', () => {
  it('is told apart from other answers and from missing events', async () => {
    const [test] = parseScript('wrong.txt', WRONG).cases;
    if (test === undefined) throw new Error('no case');
    const difference = describeDifference(test, await answersOf(test)) ?? '';
    expect(difference).toContain('expected EACCES\n    received OK');
    expect(difference).toContain('(at dom0.b)\n    expected nothing\n    received event /a t');
    expect(difference).toContain('expected "3"\n    received "2"');
  });

  it('is recorded with the answers in place of the old ones', async () => {
    const script = parseScript('wrong.txt', WRONG);
    const [test] = script.cases;
    if (test === undefined) throw new Error('no case');
    const recorded = rewriteScript(script, await answersOf(test));
    expect(recorded).toContain('dom0: WRITE /a 1 => OK\n');
    expect(recorded).toContain('dom0: WRITE /a 2 => OK\n  dom0.b <= event /a t\n');
    const [again] = parseScript('right.txt', recorded).cases;
    if (again === undefined) throw new Error('no case');
    expect(describeDifference(again, await answersOf(again))).toBeUndefined();
  });

  it.each([
    ['dom0: READ /a', 'x.txt:1: a step needs a title'],
    ['== t\ndom0 READ /a', "x.txt:2: 'dom0 READ /a' is no step"],
    ['== t\ndom0: REED /a', "x.txt:2: 'REED' is no operation"],
  ])('with a mistake is refused: %j', (source, sentence) =>
    expect(() => parseScript('x.txt', source)).toThrow(sentence),
  );

  it('needs a reason for each listed difference', () =>
    expect(() => parseDifferences('xenstored-4.17 | a.txt | some case')).toThrow('has not the form'));
});
