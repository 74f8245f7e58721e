/** A killed daemon whose spools are in files: what the guest has said comes once, all of it, and that is said. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { resumeRing } from '../../src/backend/resume-ring.js';
import { FILE_CRASH_BOUND } from '../../src/backend/session-types.js';
import { FileSpool } from '../../src/chardev/file-spool.js';
import { frontendPath } from '../../src/console/layout.js';
import { BackendRing, OFFSET, PAGE_BYTES, WORD } from '../../src/console/ring.js';
import { DaemonHost } from '../support/daemon-host.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const spoolOf = (host: DaemonHost): string => join(host.env.runDirectory, 'spool/1-1');
const start = (): Promise<DaemonHost> => DaemonHost.start({ spool: 'file' });

describe('a killed daemon with its spools in files', () => {
  it('loses nothing of what no client has taken', async () => {
    const host = await start();
    const { tty, path } = await host.plug();
    tty.openLine();
    const before = randomBytes(300_000);
    tty.send(before);
    await until('the daemon has it', () => host.channel().spoolBytes === before.length);
    expect(host.channel().spool).toBe('file');
    await host.host.crashDaemon();
    const meanwhile = randomBytes(10_000);
    tty.send(meanwhile);
    await host.host.startDaemon();
    expect(host.channel()).toMatchObject({
      gap: null,
      recovered: { bytes: before.length, fromOffset: 0, repeatedBytes: FILE_CRASH_BOUND.repeatedFromGuestBytes },
    });
    expect(host.log.filter(({ msg }) => msg === 'the guest lost nothing by the death of a daemon')).toHaveLength(1);
    const client = await host.client(path);
    await until('all is there', () => client.received.length === before.length + meanwhile.length);
    expect(sha(client.received)).toBe(sha(Buffer.concat([before, meanwhile])));
  });

  it('neither loses nor repeats anything when it dies again and again under a client that does not read', async () => {
    const host = await start();
    const { tty, path } = await host.plug();
    tty.openLine();
    const all = randomBytes(900_000);
    const received: Buffer[] = [];
    for (let life = 0; life < 6; life++) {
      const client = await host.client(path);
      client.socket.pause();
      await until('the client is seen', () => host.channel().hostOpen);
      tty.send(all.subarray(life * 150_000, (life + 1) * 150_000));
      await until('the daemon has it', () => host.channel().fromGuestBytes === (life + 1) * 150_000);
      await host.host.crashDaemon();
      client.socket.resume();
      await until('the client has seen the end', () => client.ended);
      received.push(client.received);
      await host.host.startDaemon();
      expect(host.channel()).toMatchObject({ gap: null, fromGuestBytes: (life + 1) * 150_000, droppedBytes: 0 });
    }
    const last = await host.client(path);
    const total = (): Buffer => Buffer.concat([...received, last.received]);
    await until('all is there', () => total().length >= all.length);
    expect(sha(total())).toBe(sha(all));
  });

  it('has not taken from the ring twice what it had not given back yet', async () => {
    const host = await start();
    const { tty, path } = await host.plug();
    tty.openLine();
    tty.send('said once');
    await until('the daemon has it', () => host.channel().spoolBytes === 9);
    await host.host.crashDaemon();
    // As it is when the daemon dies between the two: the index in the page is behind the spool.
    const rights = host.host.hypervisor.openBackend(0);
    const page = rights.grants.map(1, Number(await host.store.readText(`${frontendPath(1, 1)}/ring-ref`)));
    Atomics.store(page.words, WORD.outCons, 4);
    page.release();
    rights.close();
    await host.host.startDaemon();
    expect(host.channel()).toMatchObject({ spoolBytes: 9, gap: null, recovered: { bytes: 9, skippedBytes: 5 } });
    const client = await host.client(path);
    tty.send(', and then this');
    await until('all is there', () => client.received.toString() === 'said once, and then this');
  });

  it('leaves the file to an orderly successor, which reports neither gap nor recovery', async () => {
    const host = await start();
    const { tty, path } = await host.plug();
    tty.openLine();
    tty.send('in the file');
    await until('the daemon has it', () => host.channel().spoolBytes === 11);
    await host.host.stopDaemon();
    await host.host.startDaemon();
    expect(host.channel()).toMatchObject({ spoolBytes: 11, fromGuestBytes: 11, gap: null, recovered: null });
    const client = await host.client(path);
    await until('it is there', () => client.received.toString() === 'in the file');
    await until('it is accounted for', () => host.channel().deliveredBytes === 11);
  });

  it('is followed by one without files that finds everything all the same', async () => {
    const host = await start();
    const { tty, path } = await host.plug();
    tty.openLine();
    tty.send('kept in a file');
    await until('the daemon has it', () => host.channel().spoolBytes === 14);
    await host.host.crashDaemon();
    const { BackendDaemon } = await import('../../src/backend/daemon.js');
    const { silentLogger } = await import('../../src/base/log.js');
    const { host: simulated } = host;
    const daemon = await BackendDaemon.start({
      store: host.store,
      hypervisor: simulated.hypervisor.openBackend(0),
      clock: host.env.clock,
      log: silentLogger,
      runDirectory: host.env.runDirectory,
      spool: 'memory',
    });
    expect(daemon.status().channels[0]).toMatchObject({ spool: 'memory', spoolBytes: 14, gap: null });
    const client = await host.client(path);
    await until('it is there', () => client.received.toString() === 'kept in a file');
    expect(existsSync(spoolOf(host))).toBe(false);
    await daemon.stop();
  });

  it('says that there is a gap, and nothing else, when the file is not to be believed', async () => {
    const host = await start();
    const { tty } = await host.plug();
    tty.openLine();
    tty.send('lost');
    await until('the daemon has it', () => host.channel().spoolBytes === 4);
    await host.host.crashDaemon();
    writeFileSync(spoolOf(host), 'something else');
    await host.host.startDaemon();
    expect(host.channel()).toMatchObject({
      spoolBytes: 0,
      recovered: null,
      gap: { reason: 'spool-unusable', lostBytes: null },
    });
  });

  it('says which bytes are missing when an orderly stop left them in a file that has gone', async () => {
    const { rmSync } = await import('node:fs');
    const host = await start();
    const { tty } = await host.plug();
    tty.openLine();
    tty.send('lost');
    await until('the daemon has it', () => host.channel().spoolBytes === 4);
    await host.host.stopDaemon();
    rmSync(spoolOf(host));
    await host.host.startDaemon();
    expect(host.channel()).toMatchObject({
      gap: { reason: 'spool-unusable', fromOffset: 0, toOffset: 4, lostBytes: 4 },
    });
  });

  it('reports no gap on a channel that nobody had used', async () => {
    const host = await start();
    await host.plug();
    await host.host.crashDaemon();
    await host.host.startDaemon();
    expect(host.channel()).toMatchObject({ phase: 'connected', gap: null, recovered: null });
    expect(readdirSync(join(host.env.runDirectory, 'spool'))).toEqual([]);
  });

  it('leaves no file of a channel that is detached or whose domain is gone', async () => {
    const host = await start();
    const { tty } = await host.plug();
    tty.openLine();
    tty.send('never read');
    await until('the daemon has it', () => host.channel().spoolBytes === 10);
    await host.host.crashDaemon();
    await host.host.destroyDomain(1);
    await host.host.startDaemon();
    expect(readdirSync(join(host.env.runDirectory, 'spool'))).toEqual([]);
  });
});

describe('resumeRing', () => {
  const setup = (inRing: string, inSpool: string, outCons = 0) => {
    const buffer = new ArrayBuffer(PAGE_BYTES);
    const page = { bytes: new Uint8Array(buffer), words: new Int32Array(buffer) };
    page.bytes.set(Buffer.from(inRing), OFFSET.out + (outCons & 2047));
    page.words[WORD.outCons] = outCons | 0;
    page.words[WORD.outProd] = (outCons + inRing.length) | 0;
    const path = join(temporaryDirectory(), 'spool');
    const { spool } = FileSpool.open({ path, key: 'k', limitBytes: 4096, policy: 'drop-oldest' });
    spool.append(Buffer.from(inSpool));
    return { ring: new BackendRing(page), spool };
  };
  const ID = [3, 4] as const;

  it.each<[string, string, string, number, number]>([
    ['what stands at the end of the spool, too', 'abcdef', 'xyzabc', 3, 3],
    ['nothing where the spool ends elsewhere', 'abcdef', 'xyzabd', 3, 0],
    ['nothing of a ring that has less', 'ab', 'xyzabc', 3, 0],
    ['nothing where all was given back', 'abc', 'abc', 0, 0],
    ['nothing of a ring that is far behind', 'abc', 'abc', 5000, 0],
  ])('skips %s', (_what, inRing, inSpool, ahead, skippedBytes) => {
    const { ring, spool } = setup(inRing, inSpool);
    expect(resumeRing(ring, ID, { id: ID, position: ahead }, spool)).toEqual({ skippedBytes, missedBytes: 0 });
    expect(ring.outConsumed).toBe(skippedBytes);
  });

  it('counts across 2^32', () => {
    const { ring, spool } = setup('', 'abc', 0xfffffffe);
    expect(resumeRing(ring, ID, { id: ID, position: 0xfffffffe }, spool).skippedBytes).toBe(0);
    const wrapped = setup('a', 'xa', 0xffffffff);
    expect(resumeRing(wrapped.ring, ID, { id: ID, position: 0 }, wrapped.spool).skippedBytes).toBe(1);
    expect(wrapped.ring.outConsumed).toBe(0);
  });

  it('says how much somebody else has taken in between', () => {
    const { ring, spool } = setup('', 'abc', 100);
    expect(resumeRing(ring, ID, { id: ID, position: 40 }, spool)).toEqual({ skippedBytes: 0, missedBytes: 60 });
  });

  it('knows nothing of another ring', () => {
    const { ring, spool } = setup('abc', 'abc');
    expect(resumeRing(ring, [3, 5], { id: ID, position: 3 }, spool).skippedBytes).toBe(0);
    expect(resumeRing(ring, ID, undefined, spool).skippedBytes).toBe(0);
  });
});
