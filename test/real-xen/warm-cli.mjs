/**
 * The command line of xenchannel in a process that stays: starting Node takes seconds under emulation. Reads lines
 * "ANSWER ARGUMENT..." from the FIFO that it is given, runs them side by side, and for each writes what it printed to
 * ANSWER.out and ANSWER.err and then its exit status to ANSWER. Uses the built product; runs in dom0 of the lab.
 */
import { createReadStream, openSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';

const product = process.env.XENCHANNEL_PRODUCT ?? '/opt/xenchannel/dist';
const { run } = await import(`${product}/src/cli/run.js`);
const { systemClock } = await import(`${product}/src/base/clock.js`);
const { signal } = new AbortController();

function collect() {
  const chunks = [];
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      chunks.push(chunk);
      done();
    },
  });
  return { stream, bytes: () => Buffer.concat(chunks) };
}

async function answer(path, argv) {
  const out = collect();
  const err = collect();
  const { stdin, env } = process;
  const io = { stdin, stdout: out.stream, stderr: err.stream, env, clock: systemClock, signal };
  const status = await run(argv, io);
  writeFileSync(`${path}.out`, out.bytes());
  writeFileSync(`${path}.err`, err.bytes());
  writeFileSync(path, `${status}\n`);
}

// Also for writing, so that it does not end with the first writer.
const requests = createReadStream('', { fd: openSync(process.argv[2], 'r+') });
for await (const line of createInterface({ input: requests })) {
  const [path, ...argv] = line.split(' ');
  void answer(path, argv);
}
