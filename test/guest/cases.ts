/**
 * What a guest may find among its consoles, and which links must stand afterwards. One table for the agent and for the
 * shell helper: both must come to the same result.
 */
import type { PlugOptions } from './fake-guest.js';

export interface GuestCase {
  readonly title: string;
  /** In the order of plugging. */
  readonly consoles: readonly (PlugOptions & { readonly deviceId: number })[];
  /** Ids to unplug again, after all were plugged and before the links are looked at. */
  readonly unplug?: readonly number[];
  /** link name -> device id whose line it must reach. */
  readonly links: Readonly<Record<string, number>>;
}

const agent0 = 'org.qemu.guest_agent.0';

export const CASES: readonly GuestCase[] = [
  { title: 'one channel', consoles: [{ deviceId: 1, name: agent0 }], links: { [agent0]: 1 } },
  {
    title: 'ids that differ from the lines',
    consoles: [
      { deviceId: 5, name: 'five' },
      { deviceId: 3, name: 'three' },
    ],
    links: { five: 5, three: 3 },
  },
  {
    title: 'a console without a name between two channels',
    consoles: [{ deviceId: 1, name: 'a' }, { deviceId: 2 }, { deviceId: 3, name: 'c' }],
    links: { a: 1, c: 3 },
  },
  {
    title: 'a channel that QEMU serves, alone',
    consoles: [{ deviceId: 1, name: 'q', type: 'ioemu', answers: 'never' }],
    links: { q: 1 },
  },
  {
    title: 'two channels that nobody answers for',
    consoles: [
      { deviceId: 1, name: 'q1', type: 'ioemu', answers: 'never' },
      { deviceId: 2, name: 'q2', type: 'ioemu', answers: 'never' },
    ],
    links: {},
  },
  {
    title: 'one that QEMU serves beside one of ours',
    consoles: [
      { deviceId: 2, name: 'q', type: 'ioemu', answers: 'never' },
      { deviceId: 1, name: 'ours' },
    ],
    links: { q: 2, ours: 1 },
  },
  {
    title: 'a backend that is not there',
    consoles: [{ deviceId: 1, name: 'early', state: '3', answers: 'never' }],
    links: {},
  },
  { title: 'a name that leads out of the directory', consoles: [{ deviceId: 1, name: '../../etc/x' }], links: {} },
  { title: 'a name that is a path', consoles: [{ deviceId: 1, name: 'a/b' }], links: {} },
  { title: 'an empty name', consoles: [{ deviceId: 1, name: '' }], links: {} },
  { title: 'a name of one dot', consoles: [{ deviceId: 1, name: '.' }], links: {} },
  { title: 'a name of two dots', consoles: [{ deviceId: 1, name: '..' }], links: {} },
  { title: 'a name that begins with a dot', consoles: [{ deviceId: 1, name: '.hidden' }], links: {} },
  { title: 'a name with a space', consoles: [{ deviceId: 1, name: 'a b' }], links: {} },
  { title: 'a name with a newline', consoles: [{ deviceId: 1, name: 'a\nb' }], links: {} },
  { title: 'a name that ends in a newline', consoles: [{ deviceId: 1, name: 'a\n' }], links: {} },
  { title: 'a name with a NUL byte', consoles: [{ deviceId: 1, name: 'a\0b' }], links: {} },
  { title: 'a name that ends in a NUL byte', consoles: [{ deviceId: 1, name: 'a\0' }], links: {} },
  { title: 'a name that is not UTF-8', consoles: [{ deviceId: 1, name: Buffer.from([0x61, 0xff, 0xfe]) }], links: {} },
  { title: 'a name with an umlaut', consoles: [{ deviceId: 1, name: 'ä' }], links: {} },
  { title: 'a name that a shell would run', consoles: [{ deviceId: 1, name: '$(touch x)' }], links: {} },
  { title: 'a name with a wildcard', consoles: [{ deviceId: 1, name: '*' }], links: {} },
  { title: 'a name that looks like an option', consoles: [{ deviceId: 1, name: '-f' }], links: { '-f': 1 } },
  {
    title: 'the longest name',
    consoles: [{ deviceId: 1, name: 'n'.repeat(255) }],
    links: { ['n'.repeat(255)]: 1 },
  },
  { title: 'a name that is one byte too long', consoles: [{ deviceId: 1, name: 'n'.repeat(256) }], links: {} },
  {
    title: 'one name twice',
    consoles: [
      { deviceId: 1, name: 'same' },
      { deviceId: 2, name: 'same' },
    ],
    links: { same: 1 },
  },
  {
    title: 'a bad name beside a good one',
    consoles: [
      { deviceId: 1, name: '../x' },
      { deviceId: 2, name: 'good' },
    ],
    links: { good: 2 },
  },
  {
    title: 'a channel that has gone again',
    consoles: [
      { deviceId: 1, name: 'a' },
      { deviceId: 2, name: 'b' },
    ],
    unplug: [1],
    links: { b: 2 },
  },
  { title: 'no console at all', consoles: [], links: {} },
];
