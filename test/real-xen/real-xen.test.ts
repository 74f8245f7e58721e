import { beforeAll, describe, expect, it } from 'vitest';
import { listScenarios, type Outcome, runInLab } from './lab.js';

const all = listScenarios();
/** Where the two xenstored differ in a way that channels can feel: the order of directories and of events. */
const STORE_DEPENDENT = ['60-seven', '70-cycles'];

describe.each([
  ['oxenstored', all, []],
  ['the C xenstored', all.filter(({ name }) => STORE_DEPENDENT.includes(name)), ['--c-xenstored']],
])('on a genuine Xen 4.17 with %s', (_store, scenarios, options) => {
  if (scenarios.length === 0) return;
  let outcomes: Map<string, Outcome>;
  let directory: string;

  beforeAll(async () => {
    ({ outcomes, directory } = await runInLab(scenarios, options));
  });

  it.each(scenarios)('$sentence', ({ name }) => {
    const outcome = outcomes.get(name);
    console.log(`${name}: ${outcome?.seconds} s`);
    expect(outcome, `${name} did not run, see ${directory}`).toBeDefined();
    expect(outcome?.status, `${name}: ${outcome?.output.slice(-4000)}\n(more in ${directory}/out)`).toBe(0);
  });
});
