/** A daemon that stops in order and the next one. */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { backendPath, frontendPath, KEY } from '../../src/console/layout.js';
import { DaemonHost } from '../support/daemon-host.js';
import { until } from '../support/until.js';

const FRONTEND = frontendPath(1, 1);
const BACKEND = backendPath({ domid: 1, deviceId: 1, backendDomid: 0 });
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('an orderly restart', () => {
  it('loses and repeats nothing of a transfer under way in both directions, and the guest does not notice', async () => {
    const host = await DaemonHost.start();
    // Nobody waits for the client here: the guest fills the spool at the speed of memory.
    const { tty, path } = await host.plug({ limitBytes: 8 * 1024 * 1024 });
    tty.openLine();
    const up = randomBytes(3 * 1024 * 1024);
    const down = randomBytes(1024 * 1024);
    await host.store.write(`${FRONTEND}/${KEY.guestOpen}`, '1');
    const states: string[] = [];
    const watch = await host.store.watch(`${FRONTEND}/state`, () => {
      void host.store.tryReadText(`${FRONTEND}/state`).then((state) => states.push(state ?? 'gone'));
    });
    const received: Buffer[] = [];
    const heard: Buffer[] = [];
    let sent = 0;
    tty.send(up);
    for (let round = 0; round < 6; round++) {
      const client = await host.client(path);
      await until('the client is seen', () => host.channel().hostOpen);
      const mark = sent;
      // Only what the daemon took is not sent again: the client counts, as any program on a byte stream must.
      const piece = down.subarray(sent, sent + 200_000);
      client.socket.write(piece);
      let turns = 0;
      await until('some bytes have moved', () => {
        const bytes = tty.receive();
        if (bytes !== 'end') heard.push(bytes);
        return ++turns > 40;
      });
      await host.host.stopDaemon();
      await until('the client has seen the end', () => client.ended);
      received.push(client.received);
      await host.host.startDaemon();
      const { toGuestBytes, inputBytes } = host.channel();
      sent = toGuestBytes + inputBytes;
      expect(sent).toBeGreaterThanOrEqual(mark);
      expect(host.channel().gap).toBeNull();
    }
    const client = await host.client(path);
    client.socket.write(down.subarray(sent));
    await until(
      'all has arrived',
      () => {
        const bytes = tty.receive();
        if (bytes !== 'end') heard.push(bytes);
        const before = received.reduce((sum, { length }) => sum + length, 0);
        return before + client.received.length >= up.length && heard.reduce((n, b) => n + b.length, 0) >= down.length;
      },
      15_000,
    );
    expect(sha(Buffer.concat([...received, client.received]))).toBe(sha(up));
    expect(sha(Buffer.concat(heard))).toBe(sha(down));
    await watch.stop();
    expect(new Set(states)).toEqual(new Set(['4']));
    expect(host.channel().droppedBytes).toBe(0);
  });

  it('keeps what waits for a client, the counters, and whether the guest has spoken', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    tty.openLine();
    tty.send('kept for later');
    await until('it is spooled', () => host.channel().spoolBytes === 14);
    await host.host.stopDaemon();
    const file = `${host.host.runDirectory}/handover/1-1`;
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(existsSync(path)).toBe(false);
    await host.host.startDaemon();
    expect(existsSync(file)).toBe(false);
    expect(host.channel()).toMatchObject({ spoolBytes: 14, fromGuestBytes: 14, silent: false, gap: null });
    const client = await host.client(path);
    await until('the client has it', () => client.received.toString() === 'kept for later');
  });

  it('removes the hand-over of a channel that went while no daemon ran', async () => {
    const host = await DaemonHost.start();
    await host.plug();
    await host.host.stopDaemon();
    await host.host.destroyDomain(1);
    await host.host.startDaemon();
    expect(readdirSync(`${host.host.runDirectory}/handover`)).toEqual([]);
  });

  it('of a daemon whose ring was served by somebody in between throws the old bytes away and says so', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug();
    tty.openLine();
    tty.send('old');
    await until('it is spooled', () => host.channel().spoolBytes === 3);
    await host.host.stopDaemon();
    const { renameSync } = await import('node:fs');
    const handover = `${host.host.runDirectory}/handover/1-1`;
    renameSync(handover, `${host.host.root}/aside`);
    await host.host.startDaemon();
    tty.send('new');
    await until('it moved on', () => host.channel().fromGuestBytes === 3);
    await host.host.crashDaemon();
    renameSync(`${host.host.root}/aside`, handover);
    await host.host.startDaemon();
    expect(host.channel()).toMatchObject({ spoolBytes: 0, gap: { reason: 'ring-moved-on', discardedBytes: 3 } });
  });

  it('finishes a detach that began while no daemon ran, draining a guest that is still writing', async () => {
    const host = await DaemonHost.start();
    const { tty } = await host.plug();
    tty.openLine();
    await host.host.stopDaemon();
    tty.send(randomBytes(10_000));
    const detached = host.detach();
    await host.store.waitUntil(async (store) => (await store.tryReadText(`${BACKEND}/state`)) === '5', {
      what: 'the detach has begun',
      paths: [BACKEND],
      timeoutMs: 5000,
    });
    await host.host.startDaemon();
    await detached;
    expect(host.host.hypervisor.mappedPages()).toBe(0);
  });
});

/** Nearly as many as the kernel lets wait. */
const WORDS = Array.from({ length: 15 }, (_, n) => `client ${n}, `);

describe.each(['file', 'memory'] as const)('an orderly stop with spools in %s', (spool) => {
  it('brings the guest what clients wrote that came, and left, before they were accepted', async () => {
    const host = await DaemonHost.start({ spool });
    const { tty, path } = await host.plug();
    tty.openLine();
    tty.send('the guest speaks first');
    await until('the daemon has it', () => host.channel().fromGuestBytes > 0);
    // The daemon, whose event loop is this one, knows nothing of them yet.
    for (const word of WORDS) spawnSync('sh', ['-c', `printf '${word}' | socat -u - UNIX-CONNECT:${path}`]);
    await host.host.stopDaemon();
    await host.host.startDaemon();
    await until('all has arrived', () => tty.heldBytes >= WORDS.join('').length);
    expect(tty.receive().toString()).toBe(WORDS.join(''));
  });

  it('gives a client that is accepted while it stops every byte once', async () => {
    const host = await DaemonHost.start({ spool });
    const { tty, path } = await host.plug({ limitBytes: 1024 * 1024 });
    tty.openLine();
    const said = randomBytes(700_000);
    tty.send(said);
    await until('the daemon has it', () => host.channel().spoolBytes === said.length);
    const dialling = host.client(path);
    const stopping = host.host.stopDaemon();
    const early = await dialling;
    await stopping;
    await until('the client has seen the end', () => early.ended);
    await host.host.startDaemon();
    const late = await host.client(path);
    const both = (): Buffer => Buffer.concat([early.received, late.received]);
    await until('all is there', () => both().length >= said.length);
    expect(both().equals(said)).toBe(true);
    expect(host.channel()).toMatchObject({ fromGuestBytes: said.length, droppedBytes: 0, gap: null });
  });
});
