import { existsSync, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { channelNameProblem } from '../../src/console/name.js';
import { deduce } from '../../src/guest/deduce.js';
import { FakeGuest } from './fake-guest.js';

/** Everything below the root of the guest that is no directory. */
function entries(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
}

const anyName = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc
    .string({ unit: fc.constantFrom('.', '/', 'a', '-', '\0', '\n', '\\', '*'), maxLength: 12 })
    .map((text) => Buffer.from(text)),
);

describe('no name, whatever its bytes,', () => {
  it('makes anything but a symlink to a line inside the link directories', async () => {
    await fc.assert(
      fc.asyncProperty(anyName, async (name) => {
        const guest = new FakeGuest();
        guest.plug(1, { name });
        const agent = await guest.startAgent({ virtioPorts: true });
        const made = entries(guest.root).filter((path) => path !== 'run/xenchannel-agent/lines.json');
        const text = Buffer.from(name).toString('latin1');
        const allowed = channelNameProblem(name) === undefined;
        expect(made.sort()).toEqual(
          allowed ? [`dev/virtio-ports/${text}`, `dev/xen-channel/${text}`, `dev/xenchannel/${text}`] : [],
        );
        for (const path of made) expect(lstatSync(join(guest.root, path)).isSymbolicLink()).toBe(true);
        await agent.stop();
      }),
      { numRuns: 150 },
    );
  });
});

type Step = { readonly plug: boolean; readonly deviceId: number; readonly name: string; readonly wait: boolean };

const steps = fc.array(
  fc.record({
    plug: fc.boolean(),
    deviceId: fc.integer({ min: 1, max: 7 }),
    name: fc.constantFrom('a', 'b', 'c', 'd', '../e', ''),
    wait: fc.boolean(),
  }),
  { maxLength: 25 },
);

describe('after any sequence of plugging and unplugging', () => {
  const apply = (guest: FakeGuest, { plug, deviceId, name }: Step): void => {
    const there = guest.slots.some((console) => console?.deviceId === deviceId);
    if (plug && !there) guest.plug(deviceId, { name });
    else if (!plug) guest.unplug(deviceId);
  };

  it('the links are those of the valid, connected channels, each to its own line', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (sequence) => {
        const guest = new FakeGuest();
        const agent = await guest.startAgent();
        for (const step of sequence) {
          apply(guest, step);
          if (step.wait) await guest.settle(agent);
        }
        await guest.settle(agent);
        const present = guest.slots.filter((console) => console !== undefined && console.deviceId > 0);
        const byName = new Map<string, string[]>();
        for (const console of present) {
          const name = guest.store.text(`device/console/${console?.deviceId}/name`) ?? '';
          if (channelNameProblem(name) !== undefined) continue;
          byName.set(name, [...(byName.get(name) ?? []), `../hvc${console?.index}`]);
        }
        const directory = join(guest.root, 'dev/xenchannel');
        const links = existsSync(directory) ? readdirSync(directory) : [];
        expect(links.sort()).toEqual([...byName.keys()].sort());
        for (const name of links) expect(byName.get(name)).toContain(readlinkSync(join(directory, name)));
        // What is not linked is not held, and nothing that was read belonged to an application.
        for (const console of present) expect(console?.opens).toBeLessThanOrEqual(1);
        await agent.stop();
        for (const console of present) expect(console?.opens).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});

describe('reasoning without answers', () => {
  it('is certain only of what is the only possibility, and never gives one line to two consoles', () => {
    const view = fc.record({
      deviceId: fc.integer({ min: 1, max: 12 }),
      state: fc.constantFrom('connected', 'initialised', 'initialising', 'closing', 'closed'),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(view, { selector: ({ deviceId }) => deviceId, maxLength: 8 }),
        fc.uniqueArray(fc.integer({ min: 0, max: 7 }), { maxLength: 8 }),
        (consoles, lines) => {
          const found = deduce({
            consoles: consoles.map((entry) => ({ ...entry, mute: true, instance: '' }) as never),
            lines: lines.sort((a, b) => a - b),
            probeOrder: [],
          });
          expect(new Set(found.map(({ index }) => index)).size).toBe(found.length);
          expect(found.every(({ index }) => lines.includes(index))).toBe(true);
          if (!found.some(({ sure }) => sure === 'deduced')) return;
          expect([found.length, lines.length]).toEqual([1, 1]);
          const others = consoles.filter(({ deviceId }) => deviceId !== found[0]?.deviceId);
          // Nothing else has, had or will have a line, as far as anybody can tell.
          expect(others.every(({ state }) => state === 'closed')).toBe(true);
          expect(consoles.every(({ deviceId }) => deviceId <= 9)).toBe(true);
        },
      ),
    );
  });
});
