/** A killed daemon whose spools died with it: what is lost is bounded, and said. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { frontendPath } from '../../src/console/layout.js';
import { DaemonHost } from '../support/daemon-host.js';
import { until } from '../support/until.js';

const FRONTEND = frontendPath(1, 1);
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('a crash', () => {
  it('is followed by a daemon that takes the same ring, reports a gap, and the guest does not notice', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    tty.openLine();
    const first = await host.client(path);
    tty.send('before, ');
    await until('the client has it', () => first.received.length === 8);
    await host.host.crashDaemon();
    expect(existsSync(path)).toBe(true);
    tty.send('meanwhile, ');
    await host.host.startDaemon();
    expect(host.channel()).toMatchObject({ phase: 'connected', gap: { reason: 'no-handover' }, silent: false });
    const second = await host.client(path);
    tty.send('after');
    await until('the client has it', () => second.received.toString() === 'meanwhile, after');
    expect(await host.store.readText(`${FRONTEND}/state`)).toBe('4');
  });

  it('in the middle of a transfer with a client that keeps up loses and repeats nothing', async () => {
    const host = await DaemonHost.start();
    const { tty, path } = await host.plug();
    tty.openLine();
    const all = randomBytes(4 * 1024 * 1024);
    const received: Buffer[] = [];
    const total = (): number => received.reduce((sum, { length }) => sum + length, 0);
    let sent = 0;
    for (let life = 0; life < 4; life++) {
      const client = await host.client(path);
      await until('the client is seen', () => host.channel().hostOpen);
      while (sent < (life + 1) * 1024 * 1024) {
        tty.send(all.subarray(sent, sent + 50_000));
        sent = Math.min(sent + 50_000, all.length);
        await until('the client keeps up', () => total() + client.received.length === sent);
      }
      if (life === 3) received.push(client.received);
      else {
        // The last piece is with the kernel, not with the client yet.
        tty.send(all.subarray(sent, sent + 1500));
        sent += 1500;
        await host.host.crashDaemon();
        tty.send(all.subarray(sent, sent + 10_000));
        sent += 10_000;
        await until('the client has seen the end', () => client.ended);
        received.push(client.received);
        await host.host.startDaemon();
      }
    }
    expect(total()).toBe(all.length);
    expect(sha(Buffer.concat(received))).toBe(sha(all));
  });
});
