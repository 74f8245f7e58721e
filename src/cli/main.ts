#!/usr/bin/env node
/** The process around the command line: its streams, its signals, its end. */
import { systemClock } from '../base/clock.js';
import { ChannelError, EXIT } from '../base/errors.js';
import { run } from './run.js';

const stopping = new AbortController();

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // A second signal does not wait for anything.
    if (stopping.signal.aborted) process.exit(EXIT.interrupted);
    stopping.abort(new ChannelError('interrupted', `interrupted by ${signal}`, { signal }));
  });
}

// `xenchannel list | head -1` is no error.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.done);
    throw error;
  });
}

const code = await run(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  clock: systemClock,
  signal: stopping.signal,
  onUserSignal: (fn) => {
    process.on('SIGUSR1', fn);
    return () => process.off('SIGUSR1', fn);
  },
});
// stdin may still be open; what was written must be out first.
process.stdout.write('', () => process.exit(code));
