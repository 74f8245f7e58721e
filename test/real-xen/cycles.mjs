/**
 * Attaches and detaches one channel again and again in a single process: `node cycles.mjs DOMAIN NAME COUNT`.
 * Uses the built product; runs in dom0 of the lab.
 */
const product = process.env.XENCHANNEL_PRODUCT ?? '/opt/xenchannel/dist';
const { XenstoreClient } = await import(`${product}/xenstore/index.js`);
const { attach } = await import(`${product}/src/dom0/attach.js`);
const { detach } = await import(`${product}/src/dom0/detach.js`);
const { parseChannelName } = await import(`${product}/src/console/name.js`);
const { systemClock } = await import(`${product}/src/base/clock.js`);

const [domain, text, count] = process.argv.slice(2);
const environment = { runDirectory: '/run/xenchannel', backendDomid: 0, clock: systemClock };
const spec = { name: parseChannelName(text), connection: 'socket', backend: 'native', limitBytes: 1048576 };
const store = await XenstoreClient.connect();
const times = { attach: [], detach: [] };
for (let cycle = 0; cycle < Number(count); cycle++) {
  const start = performance.now();
  await attach(store, { domain, spec, waitMs: 30_000 }, environment);
  const attached = performance.now();
  await detach(store, { domain, name: spec.name }, environment);
  times.attach.push(attached - start);
  times.detach.push(performance.now() - attached);
}
await store.close();
const median = (values) => Math.round(values.sort((a, b) => a - b)[values.length >> 1]);
console.log(`${count} cycles: median attach ${median(times.attach)} ms, detach ${median(times.detach)} ms`);
