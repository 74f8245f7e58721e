/** What the daemon writes for a channel, and that it never brings back what was removed. */
import { beforeEach, describe, expect, it } from 'vitest';
import { ChannelNodes } from '../../src/backend/channel-nodes.js';
import { backendPath, frontendPath, KEY } from '../../src/console/layout.js';
import type { Store } from '../../xenstore/index.js';
import { MemoryStore } from '../dom0/memory-store.js';

const ADDRESS = { domid: 1, deviceId: 2, backendDomid: 0 };
const FRONTEND = frontendPath(1, 2);
const BACKEND = backendPath(ADDRESS);
const UUID = '00000000-0000-4000-8000-000000000001';

let store: MemoryStore;
let nodes: ChannelNodes;

beforeEach(async () => {
  store = new MemoryStore();
  nodes = new ChannelNodes(store, ADDRESS);
  await store.write('/local/domain/1/vm', `/vm/${UUID}`);
});

describe('what is not there', () => {
  it.each([
    ['a backend is not made by its state', () => nodes.writeState('connected')],
    ['a frontend is not made by word of the host', () => nodes.writeHostOpen(true)],
  ])('%s', async (_title, write) => {
    const before = store.dump();
    expect(await write()).toBe(false);
    expect(store.dump()).toEqual(before);
  });

  it('is no question', async () => {
    expect(await nodes.takeNonce()).toEqual({ kind: 'none' });
  });
});

it('the state and the host client are written where the nodes are', async () => {
  await store.write(`${BACKEND}/state`, '2');
  await store.write(`${FRONTEND}/state`, '3');
  expect(await nodes.writeState('connected')).toBe(true);
  expect(await nodes.writeHostOpen(true)).toBe(true);
  expect(await store.readText(`${BACKEND}/state`)).toBe('4');
  expect(await store.readText(`${FRONTEND}/${KEY.hostOpen}`)).toBe('1');
});

it('a question is taken once', async () => {
  await store.write(`${FRONTEND}/${KEY.identify}`, '0123456789abcdef');
  expect(await nodes.takeNonce()).toEqual({ kind: 'nonce', nonce: '0123456789abcdef' });
  expect(await nodes.takeNonce()).toEqual({ kind: 'none' });
});

describe('an offer', () => {
  beforeEach(async () => {
    for (const [key, value] of Object.entries({ state: '3', 'ring-ref': '8', port: '9' })) {
      await store.write(`${FRONTEND}/${key}`, value);
    }
  });

  it('is the ring, the port, the state and the domain', async () => {
    expect(await nodes.readOffer()).toMatchObject({ frontend: 'initialised', ringRef: 8, port: 9, uuid: UUID });
  });

  it('never mixes the ring of one moment with the port of another', async () => {
    // The guest connects anew after our first look at the ring and before that at the port.
    const rings = ['8'];
    const changing: Store = new Proxy(store, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key);
        if (key !== 'tryReadText') return typeof value === 'function' ? value.bind(target) : value;
        return async (path: string) => {
          if (path === `${FRONTEND}/ring-ref`) return rings.shift() ?? '18';
          return path === `${FRONTEND}/port` ? '19' : target.tryReadText(path);
        };
      },
    });
    expect(await new ChannelNodes(changing, ADDRESS).readOffer()).toMatchObject({ ringRef: 18, port: 19 });
  });
});
