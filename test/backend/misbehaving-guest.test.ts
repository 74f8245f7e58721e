import { describe, expect, it } from 'vitest';
import { frontendPath } from '../../src/console/layout.js';
import { DaemonHost } from '../support/daemon-host.js';
import { until } from '../support/until.js';

const FRONTEND = frontendPath(1, 1);

describe('a guest that misbehaves', () => {
  it('and deletes its frontend loses its ring at once, and nobody makes the frontend again', async () => {
    const host = await DaemonHost.start();
    const { path } = await host.plug();
    await host.client(path);
    await until('the client is told of', () => host.channel().hostOpen);
    await host.store.rm(FRONTEND);
    await host.states(1, undefined, '6');
    expect(host.host.hypervisor.mappedPages()).toBe(0);
    expect(await host.store.exists(FRONTEND)).toBe(false);
    expect(host.channel()).toMatchObject({ phase: 'closed', frontendState: 'gone' });
  });

  it.each<[string, string]>([
    ['state', 'connected'],
    ['state', '4 '],
    ['state', '\x00\xff'],
    ['state', '9'],
  ])('and writes %s = %j is left as it is, and the line is logged once', async (key, value) => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    const client = await host.client(path);
    await host.store.write(`${FRONTEND}/${key}`, value);
    await until('it is counted', () => host.channel().malformed === 1);
    tty.openLine();
    tty.send('still here');
    await until('bytes go on', () => client.received.toString() === 'still here');
    expect(host.channel()).toMatchObject({ phase: 'connected', malformed: 1 });
    expect(host.log.filter(({ fields }) => fields['code'] === 'frontend-malformed')).toHaveLength(1);
  });

  it.each<[string, string, string]>([
    ['ring-ref', '-1', 'frontend-malformed'],
    ['ring-ref', '4294967296', 'frontend-malformed'],
    ['port', '1e3', 'frontend-malformed'],
    ['ring-ref', '999999', 'grant-unmappable'],
    ['port', '999999', 'port-unbindable'],
  ])(
    'and offers %s = %s is not served, once logged, and served when it offers a right one',
    async (key, value, code) => {
      const host = await DaemonHost.start({ daemon: false });
      await host.attach();
      await host.states(1, '3', '2');
      const right = await host.store.readText(`${FRONTEND}/${key}`);
      await host.store.write(`${FRONTEND}/${key}`, value);
      await host.host.startDaemon();
      expect(host.channel().phase).toBe('waiting');
      expect(host.host.hypervisor.mappedPages()).toBe(0);
      for (let poke = 0; poke < 5; poke++) await host.store.write(`${FRONTEND}/poke`, String(poke));
      expect(host.log.filter(({ fields }) => fields['code'] === code)).toHaveLength(1);
      await host.store.write(`${FRONTEND}/${key}`, right);
      await host.states(1, '4', '4');
      expect(host.channel().problems).toEqual([]);
    },
  );

  it('and starts anew without closing gets a new connection on its new ring', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    await host.store.write(`${FRONTEND}/state`, '1');
    await host.states(1, '1', '2');
    expect(host.host.hypervisor.mappedPages()).toBe(0);
    await host.store.write(`${FRONTEND}/state`, '3');
    await host.states(1, '3', '4');
    expect(host.channel().connects).toBe(2);
  });

  it('and flips its state is held back, while others are served', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    const heldBack = (): boolean => host.log.some(({ fields }) => fields['code'] === 'frontend-flapping');
    for (let round = 0; round < 30 && !heldBack(); round++) {
      await host.store.write(`${FRONTEND}/state`, '6');
      await host.states(1, '6', '6');
      await host.store.write(`${FRONTEND}/state`, '3');
      await until('it is connected or held back', () => host.channel().phase === 'connected' || heldBack());
    }
    expect(host.host.hypervisor.mappedPages()).toBe(0);
    expect(host.channel().connects).toBe(8);
    await host.plug({ name: 'org.example.b' });
  });

  it('and floods its own nodes does not keep the daemon from others', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    for (let i = 0; i < 2000; i++) void host.store.write(`${FRONTEND}/junk`, String(i)).catch(() => {});
    await host.plug({ name: 'org.example.b' });
  });
});
