import { describe, expect, it } from 'vitest';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import type { DesiredChannel } from '../../src/dom0/desired.js';
import { type Observed, planReconcile, type Step } from '../../src/dom0/reconcile.js';

const want = (input: ChannelSpecInput, last?: [domid: number, deviceId: number]): DesiredChannel => ({
  spec: parseChannelSpec(input),
  ...(last === undefined ? {} : { last: { domid: last[0], deviceId: last[1] } }),
});

type Channel = Observed['channels'][number];
const has = (name: string | undefined, deviceId: number, other: Partial<Channel> = {}): Channel => ({
  name,
  deviceId,
  server: 'native',
  online: true,
  connection: 'socket',
  path: `/run/xenchannel/dom5/${name}`,
  hasFrontend: true,
  hasBackend: true,
  ...other,
});

const see = (channels: readonly Channel[], other: Partial<Observed> = {}): Observed => ({
  domid: 5,
  channels,
  takenIds: channels.map(({ deviceId }) => deviceId),
  settled: true,
  awake: false,
  ...other,
});

/** `a: attach 3`, `a: attach 3, bury 1`, `a: nothing 2`, `a: refuse code`. */
function words(step: Step): string {
  const { name } = step.channel.spec;
  if (step.do === 'refuse') return `${name}: refuse ${step.code}${step.passing ? ', for now' : ''}`;
  const buried = step.do === 'attach' && step.deadId !== undefined ? `, bury ${step.deadId}` : '';
  return `${name}: ${step.do} ${step.deviceId}${buried}`;
}

const CASES: ReadonlyArray<[name: string, desired: DesiredChannel[], observed: Observed, steps: string[]]> = [
  ['nothing is wanted', [], see([has('x', 1)]), []],
  ['one that was never attached gets the lowest id', [want({ name: 'a' })], see([]), ['a: attach 1']],
  ['others hold the lowest ids', [want({ name: 'a' })], see([has('x', 1), has(undefined, 2)]), ['a: attach 3']],
  ['it is there', [want({ name: 'a' })], see([has('a', 4)]), ['a: nothing 4']],
  ['the former id, before the guest runs', [want({ name: 'a' }, [4, 3])], see([]), ['a: attach 3']],
  [
    'the former id belongs to the toolstack now',
    [want({ name: 'a' }, [4, 1])],
    see([has('x', 1, { server: 'toolstack' })]),
    ['a: attach 2'],
  ],
  [
    'an awake guest under a new domid',
    [want({ name: 'a' }, [4, 1])],
    see([], { awake: true }),
    ['a: attach 2, bury 1'],
  ],
  ['an awake guest under the same domid', [want({ name: 'a' }, [5, 1])], see([], { awake: true }), ['a: attach 1']],
  [
    'an awake guest whose former id is taken is past that',
    [want({ name: 'a' }, [4, 1])],
    see([has('x', 1)], { awake: true }),
    ['a: attach 2'],
  ],
  [
    'no channel gets the dead id of another',
    [want({ name: 'a' }), want({ name: 'b' }, [4, 1]), want({ name: 'c' }, [4, 2])],
    see([], { awake: true }),
    ['a: attach 3', 'b: attach 4, bury 1', 'c: attach 5, bury 2'],
  ],
  [
    'no channel gets the former id of another',
    [want({ name: 'a' }), want({ name: 'b' }, [4, 1])],
    see([]),
    ['a: attach 2', 'b: attach 1'],
  ],
  [
    'an id that was asked for, dead or not',
    [want({ name: 'a', deviceId: 2 }, [4, 2])],
    see([], { awake: true }),
    ['a: attach 2'],
  ],
  [
    'an id that was asked for is taken',
    [want({ name: 'a', deviceId: 2 })],
    see([has('x', 2)]),
    ['a: refuse device-id-in-use'],
  ],
  [
    'an id that was asked for is kept free of others',
    [want({ name: 'a' }), want({ name: 'z', deviceId: 1 })],
    see([]),
    ['a: attach 2', 'z: attach 1'],
  ],
  ['an id that the guest overlooked', [want({ name: 'a' }, [5, 1])], see([], { spentIds: [1] }), ['a: attach 2']],
  [
    'a dead id is better than none',
    [want({ name: 'a' }, [4, 7])],
    see(
      [1, 2, 3, 4, 5, 6].map((id) => has(`x${id}`, id)),
      { awake: true },
    ),
    ['a: attach 7'],
  ],
  [
    'all ids are taken',
    [want({ name: 'a' })],
    see([1, 2, 3, 4, 5, 6, 7].map((id) => has(`x${id}`, id))),
    ['a: refuse device-ids-exhausted'],
  ],
  [
    'the toolstack is not done',
    [want({ name: 'a' }, [4, 1])],
    see([], { settled: false }),
    ['a: refuse not-settled, for now'],
  ],
  [
    'what is there counts while the toolstack is not done',
    [want({ name: 'a' })],
    see([has('a', 1)], { settled: false }),
    ['a: nothing 1'],
  ],
  [
    'the toolstack has the name',
    [want({ name: 'a' })],
    see([has('a', 1, { server: 'toolstack' })]),
    ['a: refuse not-ours'],
  ],
  [
    'it is being detached',
    [want({ name: 'a' })],
    see([has('a', 1, { online: false })]),
    ['a: refuse detaching, for now'],
  ],
  ['its frontend is gone', [want({ name: 'a' })], see([has('a', 1, { hasFrontend: false })]), ['a: refuse incomplete']],
  ['its backend is gone', [want({ name: 'a' })], see([has('a', 1, { hasBackend: false })]), ['a: refuse incomplete']],
  ['another path', [want({ name: 'a', path: '/p' })], see([has('a', 1)]), ['a: refuse differs']],
  ['the same path', [want({ name: 'a', path: '/p' })], see([has('a', 1, { path: '/p' })]), ['a: nothing 1']],
  ['another connection', [want({ name: 'a', connection: 'pty' })], see([has('a', 1)]), ['a: refuse differs']],
  ['another device id', [want({ name: 'a', deviceId: 2 })], see([has('a', 1)]), ['a: refuse differs']],
  ['another backend', [want({ name: 'a' })], see([has('a', 1, { server: 'qemu' })]), ['a: refuse differs']],
];

describe('planReconcile', () => {
  it.each(CASES)('%s', (_name, desired, observed, steps) => {
    expect(planReconcile(desired, observed).map(words)).toEqual(steps);
    expect(planReconcile([...desired].reverse(), observed).map(words)).toEqual(steps);
  });

  it('is done when its steps were taken', () => {
    for (const [, desired, observed] of CASES) {
      const steps = planReconcile(desired, observed);
      const added = steps.flatMap((step) =>
        step.do === 'attach'
          ? [
              has(
                step.channel.spec.name,
                step.deviceId,
                step.channel.spec.path === undefined ? {} : { path: step.channel.spec.path },
              ),
            ]
          : [],
      );
      const after = see([...observed.channels, ...added], { awake: observed.awake, settled: observed.settled });
      expect(planReconcile(desired, after).filter((step) => step.do === 'attach')).toEqual([]);
    }
  });
});
