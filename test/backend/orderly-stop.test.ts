/** A daemon that stops in order and the next one: clients at the very moment of the change. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { DaemonHost } from '../support/daemon-host.js';
import { until } from '../support/until.js';

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
