import { describe, expect, it } from 'vitest';
import { channelWrites, defaultPath, KEY, type NodeWrite } from '../../src/console/layout.js';
import { parseChannelName } from '../../src/console/name.js';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import { parseCapture } from './capture.js';
import { PTY_CHANNEL, SOCKET_CHANNEL } from './libxl-channels.js';

const FRONTEND = '/local/domain/1/device/console/1';
const BACKEND = '/local/domain/0/backend/console/1/1';
const LIBXL = '/libxl/1/device/console/1';

function writesFor(
  input: Partial<ChannelSpecInput> = {},
  address = { domid: 1, deviceId: 1, backendDomid: 0 },
): NodeWrite[] {
  const spec = parseChannelSpec({ name: 'org.qemu.guest_agent.0', ...input });
  return channelWrites(address, spec, spec.path ?? '/var/run/ch0.sock');
}

const byPath = (a: { path: string }, b: { path: string }): number => (a.path < b.path ? -1 : 1);
const valueAt = (writes: NodeWrite[], path: string): string | undefined =>
  writes.find((node) => node.path === path)?.value;

describe('the nodes of a channel', () => {
  it('are those of libxl on a genuine Xen for a socket channel that QEMU serves, permissions included', () => {
    const ours = writesFor({ backend: 'qemu' }).filter(({ path }) => !path.endsWith(KEY.backend));
    expect([...ours].sort(byPath)).toEqual(parseCapture(SOCKET_CHANNEL).sort(byPath));
  });

  it('are those of libxl on a genuine Xen for a pty channel that QEMU serves, permissions included', () => {
    const ours = writesFor(
      { name: 'org.example.pty.1', connection: 'pty', backend: 'qemu' },
      { domid: 1, deviceId: 2, backendDomid: 0 },
    ).filter(({ path }) => !path.endsWith(KEY.backend));
    expect([...ours].sort(byPath)).toEqual(parseCapture(PTY_CHANNEL).sort(byPath));
  });

  it('differ from libxl in the type and the state of the backend alone when our daemon serves them', () => {
    const genuine = parseCapture(SOCKET_CHANNEL);
    const different = writesFor().filter(
      (node) => !genuine.some((other) => JSON.stringify(other) === JSON.stringify(node)),
    );
    expect(different.map(({ path, value }) => `${path}=${value}`).sort()).toEqual(
      [`${LIBXL}/state=2`, `${BACKEND}/state=2`, `${FRONTEND}/type=xenchannel`].sort(),
    );
    expect(different).toHaveLength(writesFor().length - genuine.length + 3);
    for (const node of different) {
      expect(node.permissions).toEqual(genuine.find(({ path }) => path === node.path)?.permissions);
    }
  });

  it('come in the order in which a genuine Xen writes them', () => {
    const order = writesFor().map(({ path }) =>
      path.replace(FRONTEND, 'FE').replace(BACKEND, 'BE').replace(LIBXL, 'LX'),
    );
    // biome-ignore format: one line for each directory
    expect(order).toEqual([
      'LX', 'LX/frontend', 'LX/backend',
      'FE', 'FE/backend', 'FE/backend-id', 'FE/state', 'FE/protocol', 'FE/name', 'FE/limit', 'FE/type', 'FE/output', 'FE/tty',
      'BE', 'BE/frontend', 'BE/frontend-id', 'BE/online', 'BE/state', 'BE/protocol', 'BE/name', 'BE/connection', 'BE/path',
      'LX/frontend-id', 'LX/online', 'LX/state', 'LX/protocol', 'LX/name', 'LX/connection', 'LX/path',
    ]);
  });

  it('of our own stand in the backend and the copy, and only for what is not the default', () => {
    const own = new Set<string>(Object.values(KEY));
    const ownKeys = (writes: NodeWrite[]): string[] =>
      writes
        .filter(({ path }) => own.has(path.slice(path.lastIndexOf('/') + 1)))
        .map(({ path, value }) => `${path}=${value}`);
    expect(ownKeys(writesFor())).toEqual([]);
    const keys = ownKeys(
      writesFor({
        mode: 0o600,
        owner: 'qemu',
        group: 'kvm',
        limitBytes: 65536,
        overflow: 'drop-newest',
        speakFirst: true,
      }),
    );
    expect(keys).toEqual(
      [BACKEND, LIBXL].flatMap((directory) => [
        `${directory}/xenchannel-mode=0600`,
        `${directory}/xenchannel-owner=qemu`,
        `${directory}/xenchannel-group=kvm`,
        `${directory}/xenchannel-limit=65536`,
        `${directory}/xenchannel-overflow=drop-newest`,
        `${directory}/xenchannel-speak-first=1`,
      ]),
    );
  });

  it('name a driver domain as owner of the backend and reader of the frontend', () => {
    const writes = writesFor({}, { domid: 5, deviceId: 3, backendDomid: 2 });
    const backend = writes.find(({ path }) => path === '/local/domain/2/backend/console/5/3');
    expect(backend?.permissions).toEqual([
      { access: 'n', domid: 2 },
      { access: 'r', domid: 5 },
    ]);
    expect(valueAt(writes, '/local/domain/5/device/console/3/backend-id')).toBe('2');
    const state = writes.find(({ path }) => path === '/local/domain/5/device/console/3/state');
    expect(state?.permissions).toEqual([
      { access: 'n', domid: 5 },
      { access: 'r', domid: 2 },
    ]);
  });

  it('never let the guest write what decides over the host', () => {
    for (const backend of ['native', 'qemu']) {
      for (const { path, permissions } of writesFor({ backend })) {
        const guestOwns = permissions[0].domid === 1;
        const guestWrites = permissions.some(({ access, domid }) => domid === 1 && (access === 'w' || access === 'b'));
        if (/\/(name|limit|type|output|tty|path|connection)$/.test(path) || path.startsWith(BACKEND)) {
          expect([path, guestOwns || guestWrites]).toEqual([path, false]);
        }
      }
    }
  });

  it('have a default path below the run directory that tells domains apart', () => {
    expect(defaultPath('/run/xenchannel', 5, parseChannelName('a.b'))).toBe('/run/xenchannel/dom5/a.b');
  });
});
