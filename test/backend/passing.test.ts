/** A session whose spool is in a file, and a client that is waiting: small pieces need not stand in the file. */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FileSpool } from '../../src/chardev/file-spool.js';
import { OUT_BYTES } from '../../src/console/ring.js';
import { SessionBench } from '../support/session-bench.js';
import { temporaryDirectory } from '../support/temp-directory.js';

const LIMIT = 8192;

function bench(limitBytes = LIMIT) {
  const options = {
    path: join(temporaryDirectory(), 'spool'),
    key: 'k',
    limitBytes,
    policy: 'drop-oldest' as const,
  };
  const made = new SessionBench({ queue: FileSpool.open(options).spool });
  made.spool.setSource({ id: [8, 9], position: 0 });
  /** What a daemon finds after this one was killed. */
  const found = () => {
    const { spool, found: what } = FileSpool.open(options);
    return { bytes: spool.copyAll(), received: spool.received, what };
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
    expect(found()).toMatchObject({ bytes: Buffer.from(''), received: 11, what: { source: { position: 11 } } });
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
    expect(found()).toMatchObject({ bytes: Buffer.from('llo'), received: 5, what: { source: { position: 5 } } });
    b.speak(', more');
    expect(found().bytes.toString()).toBe('llo, more');
    b.chardev.makeRoom(100);
    expect(b.chardev.received.toString()).toBe('hello, more');
    expect(found()).toMatchObject({ bytes: Buffer.from(''), received: 11 });
  });

  it('stands in the file as far as only this process has it', () => {
    const { bench: b, found } = bench();
    Object.assign(b.chardev, { unconfirmedBytes: 3 });
    b.speak('hello');
    expect(b.session.figures()).toMatchObject({ deliveredBytes: 5, spoolBytes: 0 });
    expect(found().bytes.toString()).toBe('llo');
    Object.assign(b.chardev, { unconfirmedBytes: 0 });
    b.session.onWritable();
    expect(found()).toMatchObject({ bytes: Buffer.from(''), received: 5 });
  });

  it("is the next client's when this one leaves without having read it", () => {
    const { bench: b, found } = bench();
    b.speak('one, ');
    b.speak('two');
    b.chardev.disconnect(3);
    b.speak(', three');
    expect(found()).toMatchObject({ bytes: Buffer.from('two, three'), received: 15 });
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

  it('may be followed by any others: what the client has not taken is in the file, in order', () => {
    const burst = fc.record({
      // How much the guest writes at first and then at each bell, and how much the client takes meanwhile and after.
      pieces: fc.array(fc.oneof(fc.constant(OUT_BYTES), fc.integer({ min: 1, max: OUT_BYTES })), {
        minLength: 1,
        maxLength: 40,
      }),
      room: fc.oneof(fc.constant(1_000_000), fc.integer({ min: 0, max: 6000 })),
      more: fc.integer({ min: 0, max: 3000 }),
    });
    fc.assert(
      fc.property(fc.array(burst, { maxLength: 12 }), (bursts) => {
        const { bench: b, found } = bench(4_000_000);
        const said: Buffer[] = [];
        const say = (length: number): Buffer => {
          const bytes = randomBytes(length);
          said.push(bytes);
          return bytes;
        };
        for (const { pieces, room, more } of bursts) {
          const [first = 1, ...others] = pieces;
          b.chardev.room = room;
          b.onNotify = () => {
            const length = others.shift();
            // There is room: a bell says that all was taken.
            if (length !== undefined) b.guest.produce(say(length));
          };
          b.speak(say(first));
          while (others.length > 0) b.speak(say(others.shift() ?? 1));
          expect(Buffer.concat([b.chardev.received, found().bytes]).equals(Buffer.concat(said))).toBe(true);
          b.chardev.makeRoom(more);
        }
        return found().received === Buffer.concat(said).length;
      }),
      { numRuns: 40 },
    );
  });
});
