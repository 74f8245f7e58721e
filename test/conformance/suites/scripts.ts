/** The request scripts as a suite: loading them, running them against any daemon, recording what a genuine one answers. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseDifferences } from '../differences.js';
import type { Peer } from '../peers/peer.js';
import { describeDifference, type Outcome, type RunOptions, runCase } from '../run-case.js';
import { type Case, formatCase, parseScript, rewriteScript, type Script, type Step } from '../script.js';

export type Scripts = readonly Script[];
export type Report = {
  readonly run: number;
  readonly equal: number;
  readonly explained: number;
  readonly problems: readonly string[];
};

/** The daemon whose answers stand in the scripts; other daemons have a folder with the cases in which they differ. */
export const RECORDED_FROM = 'xenstored-4.17';

function textFiles(folder: string): string[] {
  return existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => name.endsWith('.txt'))
        .sort()
    : [];
}

/** The scripts with the answers of daemon `like`. */
export function loadScripts(folder: string, like: string): Scripts {
  return textFiles(folder).map((name) => {
    const script = parseScript(name, readFileSync(join(folder, name), 'utf8'));
    const other = join(folder, like, name);
    if (like === RECORDED_FROM || !existsSync(other)) return script;
    const own = new Map(parseScript(`${like}/${name}`, readFileSync(other, 'utf8')).cases.map((c) => [c.title, c]));
    return { ...script, cases: script.cases.map((c) => own.get(c.title) ?? c) };
  });
}

export async function runScripts(
  scripts: Scripts,
  start: () => Promise<Peer>,
  options: RunOptions = {},
): Promise<Map<Case, ReadonlyMap<Step, Outcome>>> {
  const outcomes = new Map<Case, ReadonlyMap<Step, Outcome>>();
  for (const script of scripts) {
    for (const test of script.cases) {
      const peer = await start();
      try {
        outcomes.set(test, await runCase(peer, test, options));
      } finally {
        await peer.close();
      }
    }
  }
  return outcomes;
}

/** Compares with what is written; `like` and `differences` only where a difference may be explained. */
export function judge(
  scripts: Scripts,
  outcomes: ReadonlyMap<Case, ReadonlyMap<Step, Outcome>>,
  explanation?: { readonly like: string; readonly differences: string },
): Report {
  const explained = explanation === undefined ? [] : parseDifferences(explanation.differences);
  const problems: string[] = [];
  let [run, equal, known] = [0, 0, 0];
  for (const { name, cases } of scripts) {
    for (const test of cases) {
      run += 1;
      const difference = describeDifference(test, outcomes.get(test) ?? new Map());
      const reason = explained.find((e) => e.like === explanation?.like && e.file === name && e.title === test.title);
      if (difference === undefined) equal += 1;
      if (difference === undefined && reason) problems.push(`${name}: ${test.title}: equal, but listed as different`);
      if (difference !== undefined && reason) known += 1;
      if (difference !== undefined && !reason) problems.push(`${name}:${test.line}: ${test.title}\n${difference}`);
    }
  }
  return { run, equal, explained: known, problems };
}

/** Writes what was answered into the scripts, or for another daemon the cases that differ into its own folder. */
export function record(
  folder: string,
  like: string,
  scripts: Scripts,
  outcomes: ReadonlyMap<Case, ReadonlyMap<Step, Outcome>>,
): void {
  for (const script of scripts) {
    if (like === RECORDED_FROM) {
      const received = new Map(script.cases.flatMap((test) => [...(outcomes.get(test) ?? [])]));
      writeFileSync(join(folder, script.name), rewriteScript(script, received));
      continue;
    }
    const different = script.cases.filter(
      (test) => describeDifference(test, outcomes.get(test) ?? new Map()) !== undefined,
    );
    const text = different.map((test) => formatCase(test, outcomes.get(test) ?? new Map())).join('\n\n');
    const head = `# What ${like} answers otherwise than ${RECORDED_FROM}; written by scripts/conformance --record.\n\n`;
    if (different.length > 0) writeFileSync(join(folder, like, script.name), `${head}${text}\n`);
  }
}
