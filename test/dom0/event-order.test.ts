import { describe, expect, it } from 'vitest';
import { highestEvents, orderWarnings } from '../../src/dom0/event-order.js';
import { MemoryStore } from './memory-store.js';

async function highest(nodes: Readonly<Record<string, string>>): Promise<unknown> {
  const store = new MemoryStore();
  for (const [path, value] of Object.entries(nodes)) await store.write(`/local/domain/5/device/${path}`, value);
  try {
    return await highestEvents(store, 5);
  } finally {
    await store.close();
  }
}

describe('the highest event channel of a guest', () => {
  it.each<[string, Record<string, string>, unknown]>([
    ['none', {}, undefined],
    ['of a device that has none', { 'vkbd/0/state': '1' }, undefined],
    ['of a disk', { 'console/1/port': '7', 'vbd/51712/event-channel': '11' }, { device: 'vbd/51712', port: 11 }],
    [
      'of a network device with two',
      { 'vif/0/event-channel-tx': '14', 'vif/0/event-channel-rx': '15' },
      { device: 'vif/0', port: 15 },
    ],
    [
      'of queues',
      {
        'vbd/51712/multi-queue-num-queues': '2',
        'vbd/51712/queue-0/event-channel': '20',
        'vbd/51712/queue-1/event-channel': '21',
        'console/1/port': '9',
      },
      { device: 'vbd/51712', port: 21 },
    ],
    [
      'of a guest that writes nonsense',
      {
        'vbd/1/event-channel': '99999999999',
        'vbd/2/event-channel': '-3',
        'vbd/3/event-channel': 'x',
        'vbd/4/multi-queue-num-queues': '4000000000',
        'vbd/4/event-channel': '12',
        'console/2/port': '8',
      },
      { device: 'vbd/4', port: 12 },
    ],
  ])('is found: %s', async (_, nodes, found) => {
    expect(await highest(nodes)).toEqual(found);
  });

  it('is no reason for a warning when the new one is above it, or when either is not known', () => {
    const before = { device: 'vbd/51712', port: 11 };
    expect([orderWarnings(12, before), orderWarnings(undefined, before), orderWarnings(3, undefined)]).toEqual([
      [],
      [],
      [],
    ]);
    expect(orderWarnings(10, before)).toHaveLength(1);
  });
});
