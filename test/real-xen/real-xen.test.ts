import { beforeAll, describe, expect, it } from 'vitest';
import { listScenarios, type Outcome, runInLab } from './lab.js';

const all = listScenarios();
/** Where the two xenstored differ in a way that channels can feel: the order of directories and of events. */
const STORE_DEPENDENT = ['60-seven', '70-cycles'];
const UNDER_SYSTEMD = ['97-dom0-units'];
const only = (names: readonly string[]) => all.filter(({ name }) => names.includes(name));

const boots: [string, typeof all, string[]][] = [
  ['oxenstored', all.filter(({ name }) => !UNDER_SYSTEMD.includes(name)), []],
  ['the C xenstored', only(STORE_DEPENDENT), ['--c-xenstored']],
  ['systemd in dom0', only(UNDER_SYSTEMD), ['--systemd']],
];

// A choice of scenarios may leave a boot without any.
describe.each(boots.filter(([, scenarios]) => scenarios.length > 0))('on a genuine Xen 4.17 with %s', (...boot) => {
  const [, scenarios, options] = boot;
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
