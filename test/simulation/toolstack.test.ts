import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { buildDomain, prepareHost, removeDomain } from '../../src/simulation/toolstack.js';
import { MemoryStore } from '../dom0/memory-store.js';

const UUID = 'ed8c8868-4861-4a08-a8ee-165b24a34c03';
const CHANNELS = [
  { name: 'org.qemu.guest_agent.0', connection: 'socket', path: '/var/run/ch0.sock' },
  { name: 'org.example.pty.1', connection: 'pty' },
] as const;

/** `xenstore-ls -fp` of a genuine Xen 4.17, without the nodes of xenstored itself. */
function genuine(file: string): string[] {
  return readFileSync(new URL(file, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !/^\/(@|tool)/.test(line));
}

/** What QEMU and xenconsoled add, and values that belong to that one machine. */
function withoutServers(lines: readonly string[]): string[] {
  return lines
    .filter((line) => !/device-model|hotplug-status|\/domain\/1\/image /.test(line))
    .map((line) =>
      line
        .replace(/(\/tty = )"[^"]*"/, '$1""')
        .replace(/(backend\/console\/\d+\/\d+\/state = )"2"/, '$1"1"')
        .replace(/(start_time|image\/(?:cmdline|kernel|ramdisk)) = "[^"]*"/, '$1'),
    );
}

let store: MemoryStore;
beforeEach(async () => {
  store = new MemoryStore();
  await prepareHost(store);
});

const build = (domid: number) =>
  buildDomain(store, { domid, name: 'g', uuid: UUID, channels: CHANNELS, startedAt: 1_795_224_201_990 });

describe('the simulated toolstack', () => {
  it('writes every node of a domain with the value and the permissions that xl 4.17 gives it', async () => {
    await build(1);
    expect(withoutServers(store.dump())).toEqual(withoutServers(genuine('xl-4.17-created.txt')));
    expect(store.introduced).toEqual(new Set([1]));
  });

  it('leaves nothing behind when it removes a domain, as xl 4.17', async () => {
    await build(1);
    await removeDomain(store, 1);
    expect(withoutServers(store.dump())).toEqual(withoutServers(genuine('xl-4.17-destroyed.txt')));
  });

  it('removes a console that was plugged later if libxl has a record of it, else leaves its backend for ever', async () => {
    await build(1);
    for (const deviceId of [3, 4]) {
      const backend = `/local/domain/0/backend/console/1/${deviceId}`;
      await store.write(`/local/domain/1/device/console/${deviceId}/state`, '4');
      await store.write(`${backend}/state`, '4');
      if (deviceId === 3) await store.write(`/libxl/1/device/console/3/backend`, backend);
    }
    await removeDomain(store, 1);
    expect(store.dump().filter((line) => line.includes('/backend/console'))).toEqual([
      '/local/domain/0/backend/console = ""   (n0)',
      '/local/domain/0/backend/console/1 = ""   (n0)',
      '/local/domain/0/backend/console/1/4 = ""   (n0)',
      '/local/domain/0/backend/console/1/4/state = "4"   (n0)',
    ]);
  });

  it('does not follow a record to the nodes of another domain', async () => {
    await build(1);
    await store.write('/local/domain/0/backend/console/2/1/state', '4');
    await store.write('/libxl/1/device/console/5/backend', '/local/domain/0/backend/console/2/1');
    await removeDomain(store, 1);
    expect(await store.readText('/local/domain/0/backend/console/2/1/state')).toBe('4');
  });
});
