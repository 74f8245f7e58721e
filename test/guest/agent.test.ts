import { existsSync, lstatSync, mkdirSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeChannels } from '../../src/guest/describe.js';
import { CASES } from './cases.js';
import { FakeGuest } from './fake-guest.js';

const NAME = 'org.qemu.guest_agent.0';

/** name -> target of every entry in a link directory. */
function linksOf(guest: FakeGuest, directory = 'xenchannel'): Record<string, string> {
  const path = join(guest.root, 'dev', directory);
  if (!existsSync(path)) return {};
  return Object.fromEntries(readdirSync(path).map((entry) => [entry, readlinkSync(join(path, entry))]));
}

const claim = (guest: FakeGuest, deviceId: number): string | undefined =>
  guest.store.text(`device/console/${deviceId}/xenchannel-guest-open`);

describe('the agent links', () => {
  it.each(CASES)('$title', async ({ consoles, unplug = [], links }) => {
    const guest = new FakeGuest();
    const plugged = new Map(consoles.map(({ deviceId, ...options }) => [deviceId, guest.plug(deviceId, options)]));
    for (const deviceId of unplug) guest.unplug(deviceId);
    const agent = await guest.startAgent();
    const expected = Object.entries(links).map(([name, id]) => [name, `../hvc${plugged.get(id)?.index}`]);
    expect(linksOf(guest)).toEqual(Object.fromEntries(expected));
    expect(linksOf(guest, 'xen-channel')).toEqual(Object.fromEntries(expected));
    const opened = [...plugged.keys()].filter((id) => claim(guest, id) === '1').sort();
    expect(opened).toEqual(Object.values(links).sort());
    await agent.stop();
    expect(linksOf(guest)).toEqual({});
  });

  it.each(CASES)('$title, plugged while it runs', async ({ consoles, unplug = [], links }) => {
    const guest = new FakeGuest();
    const agent = await guest.startAgent();
    const indices = new Map<number, number>();
    for (const { deviceId, ...options } of consoles) {
      indices.set(deviceId, guest.plug(deviceId, options).index);
      await guest.settle(agent);
    }
    for (const deviceId of unplug) guest.unplug(deviceId);
    await guest.settle(agent);
    // Alone for a moment, the first of two silent channels was certain; that does not change when the second comes.
    const silent = consoles.filter(({ answers }) => answers === 'never').length;
    const expected = Object.entries(links).map(([name, id]) => [name, `../hvc${indices.get(id)}`]);
    if (silent < 2) expect(linksOf(guest)).toEqual(Object.fromEntries(expected));
    else expect(linksOf(guest)).toEqual({ q1: '../hvc1', q2: '../hvc2' });
    await agent.stop();
  });
});

describe('the agent', () => {
  it('says how sure it is of each channel', async () => {
    const guest = new FakeGuest();
    guest.plug(1, { name: 'ours' });
    guest.plug(2, { name: 'q', type: 'ioemu', answers: 'never' });
    const agent = await guest.startAgent();
    expect(agent.channels().map(({ name, tty, sure, how }) => ({ name, tty, sure, how }))).toEqual([
      { name: 'ours', tty: '/dev/hvc1', sure: 'proved', how: 'answer' },
      { name: 'q', tty: '/dev/hvc2', sure: 'deduced', how: 'only-candidate' },
    ]);
    expect(await describeChannels(guest.store, guest.root)).toEqual(
      agent.channels().map((channel) => ({ ...channel, how: 'recorded' })),
    );
    await agent.stop();
  });

  it('lists what it refuses, with the reason and without the raw bytes', async () => {
    const guest = new FakeGuest();
    guest.plug(1, { name: 'x\n[31m' });
    guest.plug(2, { name: 'same' });
    guest.plug(3, { name: 'same' });
    guest.plug(4, { name: 'early', state: '3', answers: 'never' });
    const agent = await guest.startAgent();
    expect(agent.channels().map(({ deviceId, name, problem }) => [deviceId, name, problem?.code])).toEqual([
      [1, '"x\\n[31m"', 'name-refused'],
      [2, 'same', undefined],
      [3, 'same', 'name-duplicate'],
      [4, 'early', 'not-connected'],
    ]);
    await agent.stop();
  });

  it('gives a name to the channel that waited for it once the owner has gone', async () => {
    const guest = new FakeGuest();
    const agent = await guest.startAgent();
    guest.plug(2, { name: 'same' });
    await guest.settle(agent);
    const second = guest.plug(1, { name: 'same' });
    await guest.settle(agent);
    expect(linksOf(guest)).toEqual({ same: '../hvc1' });
    guest.unplug(2);
    await guest.settle(agent);
    expect(linksOf(guest)).toEqual({ same: `../hvc${second.index}` });
    await agent.stop();
  });

  it('finds a console made anew at once, though its ring and port have the numbers of the one before', async () => {
    const guest = new FakeGuest();
    const first = guest.plug(1, { name: 'a' });
    const agent = await guest.startAgent();
    // The line hangs up before the state says so.
    first.gone = true;
    guest.slots[first.index] = undefined;
    guest.store.put('device/console/1/name', 'a');
    await guest.settle(agent);
    expect(agent.channels()[0]?.problem?.code).toBe('no-line');
    const numbers = ['ring-ref', 'port'].map((key) => [key, guest.store.text(`device/console/1/${key}`)] as const);
    guest.store.drop('device/console/1');
    guest.plug(1, { name: 'a' });
    for (const [key, value] of numbers) guest.store.put(`device/console/1/${key}`, value ?? '');
    await guest.settle(agent);
    expect(linksOf(guest)).toEqual({ a: '../hvc1' });
    await agent.stop();
  });

  it('makes guesses links only when it is told to', async () => {
    const guest = new FakeGuest();
    for (const id of [1, 2]) guest.plug(id, { name: `q${id}`, type: 'ioemu', answers: 'never' });
    const careful = await guest.startAgent();
    expect(linksOf(guest)).toEqual({});
    expect(careful.channels().map(({ problem }) => problem?.code)).toEqual(['not-sure-enough', 'not-sure-enough']);
    await careful.stop();
    const bold = await guest.startAgent({ minimum: 'guessed' });
    expect(linksOf(guest)).toEqual({ q1: '../hvc1', q2: '../hvc2' });
    await bold.stop();
  });

  it('leaves the first byte after the answer to the application', async () => {
    for (const counted of [true, false]) {
      const guest = new FakeGuest();
      guest.counted = counted;
      const console = guest.plug(1, { name: NAME });
      const key = 'device/console/1/xenchannel-identify';
      await guest.store.watch(key, () => {
        if (guest.store.text(key) === undefined) console.send('first words');
      });
      console.input.length = 0; // what the watch said at its start
      const agent = await guest.startAgent();
      expect(console.unread.replaceAll('first words', '')).toBe('');
      expect(console.unread).not.toBe('');
      expect(agent.channels()[0]?.sure).toBe('proved');
      await agent.stop();
    }
  });

  it('takes an answer that comes after the question was given up but taken by the backend', async () => {
    const guest = new FakeGuest();
    const console = guest.plug(1, { name: 'slow', answers: 'takes-late' });
    guest.plug(2, { name: 'other' });
    const agent = await guest.startAgent();
    expect(agent.channels()[0]).toMatchObject({ sure: 'proved', tty: '/dev/hvc1' });
    expect(console.unread).toBe('');
    await agent.stop();
  });

  it('takes its question back when nobody answers, and deduces', async () => {
    const guest = new FakeGuest();
    const console = guest.plug(1, { name: 'mute', answers: 'never' });
    const agent = await guest.startAgent();
    expect(guest.store.text('device/console/1/xenchannel-identify')).toBeUndefined();
    expect(agent.channels()[0]).toMatchObject({ sure: 'deduced', how: 'only-candidate' });
    expect(console.raw).toBe(true);
    await agent.stop();
    expect(console.raw).toBe(false);
  });

  it('asks nothing and reads nothing while a line has bytes for its application', async () => {
    const guest = new FakeGuest();
    const console = guest.plug(1, { name: 'a' });
    console.send('kept for you');
    const agent = await guest.startAgent();
    expect(console.unread).toBe('kept for you');
    expect(agent.channels()[0]).toMatchObject({ sure: 'deduced' });
    await agent.stop();
  });

  it('asks about no channel while any line that could be it has bytes for its application', async () => {
    const guest = new FakeGuest();
    const consoles = [guest.plug(1, { name: 'a' }), guest.plug(2, { name: 'b' })];
    consoles[0]?.send('kept for you');
    const agent = await guest.startAgent();
    expect(consoles.map((console) => console.unread)).toEqual(['kept for you', '']);
    expect(guest.store.changes.filter((path) => path.includes('identify'))).toEqual([]);
    expect(agent.channels().map(({ problem }) => problem?.code)).toEqual(['not-sure-enough', 'not-sure-enough']);
    await agent.stop();
  });

  it('holds no line of a console that is no channel', async () => {
    const guest = new FakeGuest();
    guest.plug(1, { name: 'a' });
    const other = guest.plug(2);
    const agent = await guest.startAgent();
    expect(other.opens).toBe(0);
    await agent.stop();
  });

  it('lets go of a line it cannot tell as soon as somebody else uses it', async () => {
    const guest = new FakeGuest();
    const lines = [1, 2].map((id) => guest.plug(id, { name: `q${id}`, type: 'ioemu', answers: 'never' }));
    const agent = await guest.startAgent();
    expect(lines.map(({ opens }) => opens)).toEqual([1, 1]); // what waits there would be lost at the last close
    for (const line of lines) line.busy = true;
    guest.clock.advance(60_000);
    await guest.settle(agent);
    expect(lines.map(({ opens }) => opens)).toEqual([0, 0]);
    await agent.stop();
  });

  it('takes back what a killed agent claimed if it cannot tell the line itself', async () => {
    const guest = new FakeGuest();
    for (const id of [1, 2]) guest.plug(id, { name: `q${id}`, type: 'ioemu', answers: 'never' });
    guest.store.put('device/console/1/xenchannel-guest-open', '1');
    const agent = await guest.startAgent();
    expect([claim(guest, 1), claim(guest, 2)]).toEqual(['0', undefined]);
    await agent.stop();
  });

  it('never looks for a channel on the primary console', async () => {
    const guest = new FakeGuest();
    const agent = await guest.startAgent();
    guest.plug(1, { name: 'a' });
    await guest.settle(agent);
    expect(guest.slots[0]?.opens).toBe(0);
    await agent.stop();
  });

  it('takes hvc0 when no primary console has it', async () => {
    const guest = new FakeGuest({ primary: false });
    guest.plug(1, { name: 'a' });
    const agent = await guest.startAgent();
    expect(linksOf(guest)).toEqual({ a: '../hvc0' });
    await agent.stop();
  });

  it('never opens a line that somebody uses, and takes it when they stop', async () => {
    const guest = new FakeGuest();
    const console = guest.plug(1, { name: 'a' });
    console.busy = true;
    const agent = await guest.startAgent();
    expect(console.opens).toBe(0);
    expect(agent.channels()[0]?.problem).toMatchObject({ code: 'line-busy' });
    console.busy = false;
    guest.clock.advance(60_000);
    await guest.settle(agent);
    expect(linksOf(guest)).toEqual({ a: '../hvc1' });
    await agent.stop();
  });

  it.each([true, false])('follows a channel plugged anew with the same numbers (hang-up: %s)', async (hangsUp) => {
    const guest = new FakeGuest();
    const first = guest.plug(1, { name: 'a' });
    first.hangsUp = hangsUp;
    const agent = await guest.startAgent();
    expect(first.opens).toBe(1);
    const keys = ['ring-ref', 'port'].map((key) => [key, guest.store.text(`device/console/1/${key}`) ?? ''] as const);
    guest.unplug(1);
    const second = guest.plug(1, { name: 'a' });
    for (const [key, value] of keys) guest.store.put(`device/console/1/${key}`, value);
    await guest.settle(agent);
    expect(first.opens).toBe(0);
    expect(second.opens).toBe(1);
    expect(agent.channels()[0]).toMatchObject({ sure: 'proved' });
    expect(claim(guest, 1)).toBe('1');
    await agent.stop();
  });

  it('claims nothing on a console that has gone', async () => {
    const guest = new FakeGuest();
    guest.plug(1, { name: 'a' });
    const agent = await guest.startAgent();
    guest.unplug(1);
    await guest.settle(agent);
    await agent.stop();
    expect([...guest.store.nodes.keys()].filter((key) => key.startsWith('device/'))).toEqual([]);
  });

  it('takes its claim back at an orderly stop', async () => {
    const guest = new FakeGuest();
    guest.plug(1, { name: 'a' });
    const agent = await guest.startAgent();
    expect(claim(guest, 1)).toBe('1');
    await agent.stop();
    expect(claim(guest, 1)).toBe('0');
  });

  it('leaves its links when it is told to', async () => {
    const guest = new FakeGuest();
    guest.plug(1, { name: 'a' });
    const agent = await guest.startAgent();
    await agent.stop({ keepLinks: true });
    expect(linksOf(guest)).toEqual({ a: '../hvc1' });
  });

  it('stops at once while it waits for an answer, and takes the question back', async () => {
    const guest = new FakeGuest();
    const agent = await guest.startAgent();
    guest.plug(1, { name: 'a', answers: 'never' });
    const key = 'device/console/1/xenchannel-identify';
    while (guest.store.text(key) === undefined) await new Promise((turn) => setImmediate(turn));
    await agent.stop(); // no time passes
    expect(guest.store.text(key)).toBeUndefined();
    expect(guest.clock.pending).toBe(0);
    expect(linksOf(guest)).toEqual({});
  });

  it('mirrors the links for programs of KVM guests on request, and removes that mirror later', async () => {
    const guest = new FakeGuest();
    guest.plug(1, { name: NAME });
    const first = await guest.startAgent({ virtioPorts: true });
    expect(linksOf(guest, 'virtio-ports')).toEqual({ [NAME]: '../hvc1' });
    await first.stop({ keepLinks: true });
    const second = await guest.startAgent();
    expect(linksOf(guest, 'virtio-ports')).toEqual({});
    expect(linksOf(guest)).toEqual({ [NAME]: '../hvc1' });
    await second.stop();
  });

  it('leaves alone what it did not make, and says so', async () => {
    const guest = new FakeGuest();
    mkdirSync(join(guest.root, 'dev/xenchannel'));
    mkdirSync(join(guest.root, 'dev/xen-channel'));
    writeFileSync(join(guest.root, 'dev/xenchannel/a'), 'mine');
    symlinkSync('/elsewhere', join(guest.root, 'dev/xen-channel/a'));
    guest.plug(1, { name: 'a' });
    const agent = await guest.startAgent();
    expect(agent.channels()[0]).toMatchObject({ links: [], problem: { code: 'link-in-the-way' } });
    expect(claim(guest, 1)).toBeUndefined();
    await agent.stop();
    expect(lstatSync(join(guest.root, 'dev/xenchannel/a')).isFile()).toBe(true);
    expect(readlinkSync(join(guest.root, 'dev/xen-channel/a'))).toBe('/elsewhere');
  });

  it('removes the links that a killed agent left for channels that have gone', async () => {
    const guest = new FakeGuest();
    mkdirSync(join(guest.root, 'dev/xenchannel'));
    symlinkSync('../hvc3', join(guest.root, 'dev/xenchannel/old'));
    symlinkSync('../hvc3', join(guest.root, 'dev/xenchannel/.xenchannel-1'));
    guest.plug(1, { name: 'a' });
    const agent = await guest.startAgent();
    expect(linksOf(guest)).toEqual({ a: '../hvc1' });
    await agent.stop();
  });
});

describe('an agent that follows a killed one', () => {
  /** Links, record, claims and the application stay; the keeper's descriptors are gone. */
  async function killedWithApplication(): Promise<FakeGuest> {
    const guest = new FakeGuest();
    guest.plug(1, { name: 'a' });
    guest.plug(2, { name: 'b' });
    const killed = await guest.startAgent();
    await guest.settle(killed); // the last of what it has seen of its own writes
    guest.store.dropWatches('device/console');
    for (const console of guest.slots) if (console !== undefined) console.opens = 0;
    for (const index of [1, 2]) {
      const console = guest.slots[index];
      if (console !== undefined) console.busy = true;
    }
    guest.slots[2]?.send('for the application');
    return guest;
  }

  it('keeps the lines that applications have in use, without a question and without reading', async () => {
    const guest = await killedWithApplication();
    guest.store.changes.length = 0;
    const agent = await guest.startAgent();
    expect(agent.channels()).toMatchObject([
      { name: 'a', tty: '/dev/hvc1', sure: 'proved', how: 'recorded' },
      { name: 'b', tty: '/dev/hvc2', sure: 'proved', how: 'recorded' },
    ]);
    expect(guest.slots[2]?.unread).toBe('for the application');
    expect(guest.store.changes.filter((path) => path.includes('identify'))).toEqual([]);
    await agent.stop();
  });

  it('does not believe the record about a console that was plugged anew meanwhile', async () => {
    const guest = await killedWithApplication();
    guest.unplug(1);
    guest.plug(1, { name: 'a' });
    guest.store.put('device/console/1/ring-ref', '8');
    guest.store.put('device/console/1/port', '20');
    const agent = await guest.startAgent();
    expect(agent.channels()[0]).toMatchObject({ sure: 'proved', how: 'answer' });
    await agent.stop();
  });

  it('does not trust a damaged record', async () => {
    const guest = await killedWithApplication();
    for (const console of guest.slots) if (console !== undefined) console.busy = false;
    writeFileSync(join(guest.root, 'run/xenchannel-agent/lines.json'), '{"lines":[{"deviceId":1,"index":99}]');
    guest.slots[2]?.input.splice(0);
    const agent = await guest.startAgent();
    expect(agent.channels().map(({ how }) => how)).toEqual(['answer', 'answer']);
    await agent.stop();
  });
});
