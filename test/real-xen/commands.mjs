/**
 * Runs the command lines on its standard input, without the word `xenchannel`, one after the other in a single process:
 * starting Node takes seconds under emulation. Ends with the exit status of the first one that fails.
 * Uses the built product; runs in dom0 of the lab.
 */
import { createInterface } from 'node:readline';

const product = process.env.XENCHANNEL_PRODUCT ?? '/opt/xenchannel/dist';
const { run } = await import(`${product}/src/cli/run.js`);
const { systemClock } = await import(`${product}/src/base/clock.js`);
const { stdin, stdout, stderr, env } = process;
const { signal } = new AbortController();

for await (const line of createInterface({ input: stdin })) {
  const status = await run(line.split(' '), { stdin, stdout, stderr, env, clock: systemClock, signal });
  if (status !== 0) process.exit(status);
}
