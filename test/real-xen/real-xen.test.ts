import { beforeAll, describe, expect, it } from 'vitest';
import { type Boot, type BootResult, listScenarios, startBoots } from './lab.js';

const all = listScenarios();
/** Where the two xenstored differ in a way that channels can feel: the order of directories and of events. */
const STORE_DEPENDENT = ['60-seven', '70-cycles', '86-comes-back'];
/** The slow ones with a guest of their own, and so many others that both boots take the same time. */
const SECOND = ['72-killed-cycles', '82-rename', '85-save-restore', '95-guest-agent', '96-guest-package'];
const UNDER_SYSTEMD = ['97-dom0-units'];
/** Compares speeds. */
const MEASURING = ['90-compare'];

const only = (names: readonly string[]) => all.filter(({ name }) => names.includes(name));
const OF_THEIR_OWN = [...SECOND, ...UNDER_SYSTEMD, ...MEASURING];
const usual = all.filter(({ name }) => !OF_THEIR_OWN.includes(name));

// The longest first: two run side by side.
const boots: Boot[] = [
  { title: 'oxenstored', scenarios: usual, options: [] },
  { title: 'oxenstored, booted anew', scenarios: only(SECOND), options: [] },
  { title: 'the C xenstored', scenarios: only(STORE_DEPENDENT), options: ['--c-xenstored'] },
  { title: 'systemd in dom0', scenarios: only(UNDER_SYSTEMD), options: ['--systemd'] },
  { title: 'oxenstored and nothing beside it', scenarios: only(MEASURING), options: [], alone: true },
];
// A choice of scenarios may leave a boot without any.
const chosen = boots.filter(({ scenarios }) => scenarios.length > 0);
let results: ReturnType<typeof startBoots> | undefined;

describe.each(chosen)('on a genuine Xen 4.17 with $title', (boot) => {
  let result: BootResult;

  beforeAll(async () => {
    results ??= startBoots(chosen);
    result = (await results.get(boot)) as BootResult;
  });

  it.each(boot.scenarios)('$sentence', ({ name }) => {
    const { directory, outcomes } = result;
    const outcome = outcomes.get(name);
    console.log(`${name}: ${outcome?.seconds} s`);
    expect(outcome, `${name} did not run, see ${directory}`).toBeDefined();
    expect(outcome?.status, `${name}: ${outcome?.output.slice(-4000)}\n(more in ${directory}/out)`).toBe(0);
  });
});
