/** One domain that gets and loses channels again and again: nothing may pile up anywhere. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { parseChannelName } from '../../src/console/name.js';
import { DEFAULT_LIMIT_BYTES } from '../../src/console/spec.js';
import { attach } from '../../src/dom0/attach.js';
import { detach } from '../../src/dom0/detach.js';
import { SimulatedHost } from '../../src/simulation/host.js';
import { countingClock } from '../support/counting-clock.js';
import { until } from './rig.js';

const CYCLES = 200;

let host: SimulatedHost;
let scratch: string;

afterEach(async () => {
  await host.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** Everything in the store that does not change with time. */
async function tree(path = '/'): Promise<string[]> {
  const below = path === '/' ? '' : path;
  const children = (await host.store.directory(path)).sort();
  const lines = [
    `${path} = ${await host.store.readText(path)} ${JSON.stringify(await host.store.getPermissions(path))}`,
  ];
  for (const child of children) lines.push(...(await tree(`${below}/${child}`)));
  return lines;
}

const descriptors = () => readdirSync('/proc/self/fd').length;

it(`attaches and detaches ${CYCLES} times and leaves no node, socket, link, descriptor, timer or page behind`, async () => {
  scratch = mkdtempSync(join(tmpdir(), 'xc-churn-'));
  const { clock, pending } = countingClock();
  host = await SimulatedHost.start({ root: join(scratch, 'h'), domains: 1, clock });
  const environment = { runDirectory: host.runDirectory, backendDomid: 0, clock: systemClock };
  const name = parseChannelName('org.example.churn');
  const spec = { name, connection: 'socket', backend: 'native', limitBytes: DEFAULT_LIMIT_BYTES } as const;
  const link = join(host.domain(1).root, 'dev/xenchannel', name);
  const ids = new Set<number>();
  const cycle = async (): Promise<void> => {
    const { deviceId, path } = await attach(host.store, { domain: 'guest1', spec, waitMs: 10_000 }, environment);
    ids.add(deviceId);
    await until(() => existsSync(link));
    await detach(host.store, { domain: 'guest1', name }, environment);
    await until(() => !existsSync(link));
    expect(existsSync(path)).toBe(false);
  };
  // What is opened once and kept (inotify, the first poll) is not a leak; neither are parents that stay.
  await cycle();
  const before = { tree: await tree(), descriptors: descriptors(), timers: pending() };
  for (let done = 0; done < CYCLES; done++) await cycle();
  await until(() => pending() <= before.timers);
  // A tty is closed by a thread, as the last close may wait for output to drain: the last one may still be under way.
  await until(() => descriptors() <= before.descriptors);
  expect(await tree()).toEqual(before.tree);
  expect(descriptors()).toBe(before.descriptors);
  expect(host.hypervisor.mappedPages()).toBe(0);
  expect(host.hypervisor.boundPorts()).toBe(0);
  expect(host.hypervisor.guestWarnings()).toBe(0);
  expect([...ids]).toEqual([1]);
}, 120_000);
