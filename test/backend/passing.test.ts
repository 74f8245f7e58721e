/** A session whose spool is in a file, and a client that is waiting: small pieces need not stand in the file. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FileSpool } from '../../src/chardev/file-spool.js';
import { OUT_BYTES } from '../../src/console/ring.js';
import { SessionBench } from '../support/session-bench.js';
import { temporaryDirectory } from '../support/temp-directory.js';

const LIMIT = 8192;

function bench() {
  const options = {
    path: join(temporaryDirectory(), 'spool'),
    key: 'k',
    limitBytes: LIMIT,
    policy: 'drop-oldest' as const,
  };
  const made = new SessionBench({ queue: FileSpool.open(options).spool });
  made.spool.setSource({ id: [8, 9], position: 0 });
  /** What a daemon finds after this one was killed. */
  const found = () => {
    const { spool, found: what } = FileSpool.open(options);
    return { bytes: spool.copyAll().toString(), received: spool.received, what };
  };
  made.chardev.connect();
  made.attach();
  return { bench: made, found, path: options.path };
}

describe('a piece for a client that is waiting', () => {
  it('goes to it and not into the file, which says how far the ring has been taken', () => {
    const { bench: b, found } = bench();
    b.speak('hello');
    b.speak(' there');
    expect(b.chardev.received.toString()).toBe('hello there');
    expect(found()).toMatchObject({ bytes: '', received: 11, what: { source: { position: 11 } } });
    expect(b.session.figures()).toMatchObject({
      fromGuestBytes: 11,
      deliveredBytes: 11,
      spoolBytes: 0,
      droppedBytes: 0,
    });
  });

  it('stands in the file as far as the client did not take it', () => {
    const { bench: b, found } = bench();
    b.chardev.room = 2;
    b.speak('hello');
    expect(b.chardev.received.toString()).toBe('he');
    expect(found()).toMatchObject({ bytes: 'llo', received: 5, what: { source: { position: 5 } } });
    b.speak(', more');
    expect(found().bytes).toBe('llo, more');
    b.chardev.makeRoom(100);
    expect(b.chardev.received.toString()).toBe('hello, more');
    expect(found()).toMatchObject({ bytes: '', received: 11 });
  });

  it('stands in the file as far as only this process has it', () => {
    const { bench: b, found } = bench();
    Object.assign(b.chardev, { unconfirmedBytes: 3 });
    b.speak('hello');
    expect(b.session.figures()).toMatchObject({ deliveredBytes: 5, spoolBytes: 0 });
    expect(found().bytes).toBe('llo');
    Object.assign(b.chardev, { unconfirmedBytes: 0 });
    b.session.onWritable();
    expect(found()).toMatchObject({ bytes: '', received: 5 });
  });

  it("is the next client's when this one leaves without having read it", () => {
    const { bench: b, found } = bench();
    b.speak('one, ');
    b.speak('two');
    b.chardev.disconnect(3);
    b.speak(', three');
    expect(found()).toMatchObject({ bytes: 'two, three', received: 15 });
    expect(b.session.figures()).toMatchObject({ deliveredBytes: 5, spoolBytes: 10 });
  });

  it('is offered before the guest gets its space back', () => {
    const { bench: b } = bench();
    let consumedAtWrite: number | undefined;
    const write = b.chardev.write.bind(b.chardev);
    b.chardev.write = (bytes) => {
      consumedAtWrite = b.guest.get('outCons');
      return write(bytes);
    };
    b.speak('hello');
    expect([consumedAtWrite, b.guest.get('outCons')]).toEqual([0, 5]);
  });
});

describe('a full ring', () => {
  it('goes through the file, so that the guest need not wait for the client', () => {
    const { bench: b, path } = bench();
    const bytes = Buffer.alloc(OUT_BYTES, 'x');
    b.speak(bytes);
    expect(b.chardev.received.equals(bytes)).toBe(true);
    expect(statSync(path).size).toBeGreaterThan(OUT_BYTES);
  });
});
