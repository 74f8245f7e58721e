/**
 * Attaches and detaches one channel again and again in a single process: `node cycles.mjs DOMAIN NAME COUNT [KILL_EVERY]`.
 * In every KILL_EVERYth cycle the daemon gets SIGKILL at a random moment; somebody else must start it again.
 * Uses the built product; runs in dom0 of the lab.
 */
import { readFileSync } from 'node:fs';

const product = process.env.XENCHANNEL_PRODUCT ?? '/opt/xenchannel/dist';
const { XenstoreClient } = await import(`${product}/xenstore/index.js`);
const { attach } = await import(`${product}/src/dom0/attach.js`);
const { detach } = await import(`${product}/src/dom0/detach.js`);
const { parseChannelName } = await import(`${product}/src/console/name.js`);
const { systemClock } = await import(`${product}/src/base/clock.js`);

const [domain, text, count, killEvery = '0'] = process.argv.slice(2);
const environment = { runDirectory: '/run/xenchannel', backendDomid: 0, clock: systemClock };
const spec = { name: parseChannelName(text), connection: 'socket', backend: 'native', limitBytes: 1048576 };
const store = await XenstoreClient.connect();
const times = { attach: [], detach: [] };
let kills = 0;

const median = (values) => Math.round([...values].sort((a, b) => a - b)[values.length >> 1]);

async function killDaemon() {
  await new Promise((settle) => setTimeout(settle, Math.random() * (median(times.attach) + median(times.detach))));
  process.kill(Number(readFileSync('/run/lab-daemon.pid', 'utf8')), 'SIGKILL');
  kills++;
}

for (let cycle = 1; cycle <= Number(count); cycle++) {
  const start = performance.now();
  const killed = Number(killEvery) > 0 && cycle % Number(killEvery) === 0 ? killDaemon() : undefined;
  await attach(store, { domain, spec, waitMs: 60_000 }, environment);
  const attached = performance.now();
  await detach(store, { domain, name: spec.name, timeoutMs: 60_000 }, environment);
  times.attach.push(attached - start);
  times.detach.push(performance.now() - attached);
  await killed;
  console.log(`cycle ${cycle}`);
}
await store.close();
console.log(`${count} cycles: median attach ${median(times.attach)} ms, detach ${median(times.detach)} ms; ${kills} kills`);
