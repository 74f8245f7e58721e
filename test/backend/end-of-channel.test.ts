/** How a channel ends: taken off by an admin, or with its domain. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { backendPath, frontendPath } from '../../src/console/layout.js';
import { DaemonHost } from '../support/daemon-host.js';
import { until } from '../support/until.js';

const FRONTEND = frontendPath(1, 1);
const BACKEND = backendPath({ domid: 1, deviceId: 1, backendDomid: 0 });
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('a detach', () => {
  it.each([false, true])('ends at 6/6 with everything given back (line open: %s)', async (open) => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    if (open) tty.openLine();
    const client = await host.client(path);
    await until('the client is seen', () => host.channel().hostOpen);
    await host.detach();
    expect(existsSync(path)).toBe(false);
    await until('the client has seen the end', () => client.ended);
    await until('it is over', () => !host.isServed());
    expect([host.host.hypervisor.mappedPages(), host.host.hypervisor.boundPorts()]).toEqual([0, 0]);
    expect(host.host.hypervisor.guestWarnings()).toBe(0);
    expect(await host.store.exists(BACKEND)).toBe(false);
    expect(await host.store.exists(FRONTEND)).toBe(false);
  });

  it('gives the client the last words of the guest', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    const client = await host.client(path);
    await until('the client is seen', () => host.channel().hostOpen);
    const words = randomBytes(300_000);
    tty.openLine();
    tty.send(words);
    await until('all is drained', () => host.channel().fromGuestBytes === words.length);
    await host.detach();
    await until('the client has seen the end', () => client.ended);
    expect(sha(client.received)).toBe(sha(words));
  });

  it('can be followed by an attach of the same name and path', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug();
    await host.client(path);
    for (let round = 0; round < 5; round++) {
      await host.detach();
      const again = await host.plug();
      expect(again).toMatchObject({ path, deviceId: 1 });
      await host.client(path);
    }
    await until('there is one channel', () => host.status.channels.length === 1);
    expect(host.host.hypervisor.mappedPages()).toBe(1);
  });

  it('of a guest that does not answer lets go of the ring after the time for draining', async () => {
    const { FakeClock } = await import('../support/fake-clock.js');
    const { DRAIN_TIMEOUT_MS } = await import('../../src/backend/controller.js');
    const clock = new FakeClock();
    const host = await DaemonHost.start({ clock });
    await host.plug();
    await host.host.domain(1).kernel.powerOff();
    await host.store.transaction(async (tx) => {
      await tx.write(`${BACKEND}/online`, '0');
      await tx.write(`${BACKEND}/state`, '5');
    });
    await until('it drains', () => host.channel().phase === 'closing');
    expect(host.host.hypervisor.mappedPages()).toBe(1);
    clock.advance(DRAIN_TIMEOUT_MS);
    expect(host.host.hypervisor.mappedPages()).toBe(0);
    await host.states(1, '4', '6');
  });

  it('of a channel that its guest has never looked at is over at once', async () => {
    const host = await DaemonHost.start();
    await host.host.domain(1).kernel.powerOff();
    await host.attach();
    await host.states(1, '1', '2');
    await host.detach();
    await until('it is over', () => !host.isServed());
  });

  it('by force takes the ring from a guest that does not answer', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    await host.host.domain(1).kernel.powerOff();
    await host.detach({ force: true });
    expect(host.host.hypervisor.mappedPages()).toBe(0);
  });
});

describe('the death of a domain', () => {
  it('leaves nothing mapped, no socket and no zombie', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug();
    const client = await host.client(path);
    await host.host.destroyDomain(1);
    await until('it is over', () => host.status.channels.length === 0);
    await until('the client has seen the end', () => client.ended);
    expect(host.host.hypervisor.mappedPages()).toBe(0);
    expect(host.host.hypervisor.zombies()).toEqual([]);
    expect(existsSync(path)).toBe(false);
    expect(await host.store.exists('/local/domain/0/backend/console')).toBe(false);
  });

  it('is noticed by @releaseDomain alone, while its nodes still stand', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    host.host.hypervisor.destroyDomain(1);
    expect(host.host.hypervisor.zombies()).toEqual([1]);
    await host.store.release(1);
    await until('it is over', () => host.status.channels.length === 0);
    expect(host.host.hypervisor.zombies()).toEqual([]);
    expect(await host.store.readText(`${BACKEND}/state`)).toBe('4');
  });

  it('whose id is used again at once does not pass anything to the successor', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug();
    tty.openLine();
    tty.send('secret of the first domain');
    await until('it is spooled', () => host.channel().spoolBytes > 0);
    const { uuid } = host.host.domain(1);
    await host.host.destroyDomain(1);
    await host.host.createDomain({ domid: 1 });
    const again = await host.plug();
    expect(host.channel().uuid).not.toBe(uuid);
    const client = await host.client(again.path);
    again.tty.openLine();
    again.tty.send('second');
    await until('the client hears the second', () => client.received.length > 0);
    expect(client.received.toString()).toBe('second');
  });

  it('keeps the hand-over of one domain from another one with the same id', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug();
    tty.openLine();
    tty.send('secret of the first domain');
    await until('it is spooled', () => host.channel().spoolBytes > 0);
    await host.host.stopDaemon();
    await host.host.destroyDomain(1);
    await host.host.createDomain({ domid: 1 });
    await host.attach();
    await host.host.startDaemon();
    await host.states(1, '4', '4');
    expect(host.channel()).toMatchObject({ spoolBytes: 0, gap: { reason: 'handover-unusable' } });
  });
});
