import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { BatchBuffers } from '../../src/backend/batch.js';
import { MAX_IDLE_EVENTS } from '../../src/backend/doorbell.js';
import * as indices from '../../src/console/indices.js';
import { IN_BYTES, OUT_BYTES } from '../../src/console/ring.js';
import { GuestRing } from '../support/guest-ring.js';
import { pattern, SessionBench } from '../support/session-bench.js';

vi.mock(import('../../src/console/indices.js'), { spy: true });

/** Runs `body` while another processor works: `act` comes before every look of ours at an index. */
function beside(act: () => void, body: () => void): void {
  let acting = false;
  let looks = 0;
  const actOnce = (): void => {
    looks++;
    if (acting) return;
    acting = true;
    act();
    acting = false;
  };
  const look = (words: Int32Array, at: number): number => {
    actOnce();
    return words[at] ?? Number.NaN;
  };
  vi.mocked(indices.loadIndex).mockImplementation(look);
  vi.mocked(indices.watchIndex).mockImplementation(look);
  try {
    body();
    expect(looks).toBeGreaterThan(0);
  } finally {
    vi.mocked(indices.loadIndex).mockReset();
    vi.mocked(indices.watchIndex).mockReset();
  }
}

const NONCE = '0123456789abcdef';
const turn = (): Promise<void> => new Promise((settle) => setImmediate(settle));

describe('what the guest writes', () => {
  it('reaches the client and frees the ring', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    bench.speak('hello');
    expect(bench.chardev.received.toString()).toBe('hello');
    expect(bench.guest.outSpace).toBe(OUT_BYTES);
    expect(bench.notifications).toBe(1);
  });

  it('is handed on before the guest gets its space back', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    const spaces: number[] = [];
    const write = bench.chardev.write.bind(bench.chardev);
    bench.chardev.write = (bytes) => {
      spaces.push(bench.guest.outSpace);
      return write(bytes);
    };
    bench.speak(pattern(OUT_BYTES - 1));
    expect(spaces).toEqual([1]);
    expect(bench.guest.outSpace).toBe(OUT_BYTES);
  });

  it('goes out in few writes when the guest fills its ring again and again, its last bytes as soon as they are there', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    const all = pattern(100_000);
    let at = 0;
    bench.onNotify = () => {
      at += bench.guest.produce(all.subarray(at));
    };
    bench.onNotify();
    bench.session.onEvent();
    expect(bench.chardev.received.equals(all)).toBe(true);
    expect(bench.chardev.writes).toBe(2);
  });

  it('is not mixed up when a guest that is rung makes another session work', () => {
    const batches = new BatchBuffers();
    const [one, other] = [new SessionBench({ batches }).attach(), new SessionBench({ batches }).attach()];
    one.chardev.connect();
    other.chardev.connect();
    one.onNotify = () => other.speak(pattern(OUT_BYTES, 2));
    one.speak(pattern(OUT_BYTES, 1));
    expect(one.chardev.received.equals(pattern(OUT_BYTES, 1))).toBe(true);
    expect(other.chardev.received.equals(pattern(OUT_BYTES, 2))).toBe(true);
  });

  it('is kept for the next client while none is connected', () => {
    const bench = new SessionBench().attach();
    bench.speak('before ');
    expect(bench.guest.outSpace).toBe(OUT_BYTES);
    bench.chardev.connect();
    bench.speak('after');
    expect(bench.chardev.received.toString()).toBe('before after');
  });

  it('is drained even when nobody takes it, and what exceeds the spool is counted', () => {
    const bench = new SessionBench({ spool: { limitBytes: 10_000 } }).attach();
    const all = pattern(30_000);
    for (let at = 0; at < all.length; ) at += bench.speak(all.subarray(at, at + OUT_BYTES));
    expect(bench.session.figures()).toMatchObject({ fromGuestBytes: 30_000, spoolBytes: 10_000, droppedBytes: 20_000 });
    bench.chardev.connect();
    expect(bench.chardev.received.equals(all.subarray(20_000))).toBe(true);
  });

  it('waits for a slow client in the spool and follows in order as soon as there is room', () => {
    const bench = new SessionBench().attach();
    bench.chardev.room = 1000;
    bench.chardev.connect();
    const all = pattern(5000);
    for (let at = 0; at < all.length; ) at += bench.speak(all.subarray(at, at + 700));
    expect(bench.chardev.received.length).toBe(1000);
    bench.chardev.makeRoom(1_000_000);
    expect(bench.chardev.received.equals(all)).toBe(true);
  });

  it('comes back from a client that has vanished and goes to the next one first', () => {
    const bench = new SessionBench().attach();
    bench.chardev.room = 7;
    bench.chardev.connect();
    bench.speak('one two three');
    bench.chardev.disconnect(3);
    bench.speak(' four');
    bench.chardev.room = 100;
    bench.chardev.connect();
    expect(bench.chardev.received.toString()).toBe('one two three four');
  });

  it('never overtakes what waits, even when the client takes bytes again before it says so', () => {
    const bench = new SessionBench().attach();
    bench.chardev.room = 3;
    bench.chardev.connect();
    bench.speak('one two');
    bench.chardev.room = 100;
    bench.speak(' three');
    bench.chardev.makeRoom(1);
    expect(bench.chardev.received.toString()).toBe('one two three');
  });

  it('is shown to those who look on', () => {
    const bench = new SessionBench().attach();
    bench.chardev.viewed = true;
    bench.speak('seen');
    expect(Buffer.concat(bench.chardev.shown).toString()).toBe('seen');
    expect(bench.spool.size).toBe(4);
  });

  it('is moved in bulk by a guest that refills its ring when it is rung, without recursion and with others in between', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    const all = pattern(1024 * 1024);
    let at = 0;
    bench.onNotify = () => {
      at += bench.guest.produce(all.subarray(at, at + OUT_BYTES));
      // A simulated guest rings from inside our own notify.
      bench.session.pump();
    };
    at += bench.guest.produce(all.subarray(0, OUT_BYTES));
    bench.session.onEvent();
    expect(at).toBeLessThanOrEqual(65 * OUT_BYTES);
    expect(bench.unmasks).toBe(0);
    for (let next = bench.deferred.shift(); next !== undefined; next = bench.deferred.shift()) next();
    expect(bench.chardev.received.equals(all)).toBe(true);
    expect(bench.unmasks).toBe(1);
  });

  it('in the last moment is taken when the ring goes away', () => {
    const bench = new SessionBench().attach();
    bench.guest.produce(Buffer.from('last words'));
    bench.session.detachRing({ drain: true });
    expect(bench.spool.copyAll().toString()).toBe('last words');
    bench.session.onEvent();
  });
});

describe('what the client writes', () => {
  it('reaches the guest', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    bench.chardev.send(Buffer.from('question'));
    expect(bench.notifications).toBe(1);
    expect(bench.listen().toString()).toBe('question');
  });

  it('is held back by a full ring, and the client is paused until all is in', async () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    const all = pattern(5000);
    bench.chardev.send(all.subarray(0, 3000));
    bench.chardev.send(all.subarray(3000));
    expect(bench.chardev.paused).toBe(true);
    expect(bench.chardev.outbox).toBe(2000);
    const heard: Buffer[] = [];
    while (Buffer.concat(heard).length < all.length) {
      heard.push(bench.listen(300));
      await turn();
    }
    expect(Buffer.concat(heard).equals(all)).toBe(true);
    expect(bench.chardev.paused).toBe(false);
  });

  it('is delivered to the end after the client has gone', async () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    const all = pattern(65536);
    bench.chardev.send(all);
    bench.chardev.disconnect();
    const heard: Buffer[] = [];
    for (let i = 0; i < 64; i++) heard.push(bench.listen());
    expect(Buffer.concat(heard).equals(all)).toBe(true);
  });

  it('comes with one bell for several pieces while the guest still reads older bytes, and with one in any case', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    bench.chardev.send(pattern(100));
    expect(bench.notifications).toBe(1);
    const rung: number[] = [];
    // It wakes up slowly: half of what is there at each bell.
    bench.onNotify = () => {
      const pending = (bench.guest.get('inProd') - bench.guest.get('inCons')) >>> 0;
      rung.push(pending);
      bench.guest.consume(Math.ceil(pending / 2));
    };
    bench.chardev.send(pattern(1500));
    expect(rung[0]).toBe(IN_BYTES);
    // Bells for pieces behind bytes that it had not read yet came when nothing else was left to do.
    expect(rung.length).toBeLessThan(12);
    expect(bench.session.figures().toGuestBytes).toBe(1600);
  });

  it('reaches a guest that reads while we look, and sleeps until it is rung when there was nothing', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20_000 }),
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 5 }),
        (length, appetites) => {
          const guest = new GuestRing();
          const bench = new SessionBench().attach(guest);
          bench.chardev.connect();
          const heard: Buffer[] = [];
          let awake = false;
          let meals = 0;
          const eat = (): void => {
            if (!awake) return;
            const bytes = guest.consume(appetites[meals++ % appetites.length]);
            heard.push(bytes);
            // As a Linux guest: it goes to sleep only when it has seen an empty ring.
            awake = guest.get('inProd') !== guest.get('inCons');
          };
          bench.onNotify = () => {
            awake = true;
          };
          const all = pattern(length);
          beside(eat, () => bench.chardev.send(all));
          // Everything that came after the last bell it has to find awake.
          for (let i = 0; i < 40 * length && (awake || guest.get('inProd') !== guest.get('inCons')); i++) {
            if (!awake) return false;
            eat();
            beside(eat, () => bench.session.onEvent());
          }
          const got = Buffer.concat(heard);
          return got.equals(all);
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each([
    ['its bytes stand in a full ring', { inProd: IN_BYTES }],
    ['its space came back', { outProd: 5, outCons: 5 }],
  ])('is on its way again although a daemon was killed before it rang: %s', (_, published) => {
    const guest = new GuestRing();
    for (const [index, value] of Object.entries(published)) guest.set(index as keyof typeof published, value);
    const bench = new SessionBench().attach(guest);
    expect(bench.notifications).toBe(1);
    bench.session.pump();
    expect(bench.notifications).toBe(1);
  });

  it('waits while there is no ring', () => {
    const bench = new SessionBench();
    bench.chardev.connect();
    bench.chardev.send(Buffer.from('early'));
    expect(bench.chardev.paused).toBe(true);
    bench.attach();
    expect(bench.listen().toString()).toBe('early');
  });
});

describe('a fresh channel', () => {
  it.each<[string, (bench: SessionBench) => void]>([
    ['the guest speaks', (bench) => void bench.speak('login: ')],
    ['the guest claims to have opened it', (bench) => bench.session.setGuestOpen(true)],
    ['the admin allows it', (bench) => bench.session.allowSpeakingFirst()],
  ])('is silent toward the guest until %s', (_when, happen) => {
    const bench = new SessionBench({ speakFirst: false }).attach();
    bench.chardev.connect();
    bench.chardev.send(Buffer.from('too early'));
    expect(bench.listen().length).toBe(0);
    expect(bench.session.silent).toBe(true);
    happen(bench);
    expect(bench.session.silent).toBe(false);
    expect(bench.listen().toString()).toBe('too early');
  });

  it('falls silent again when the guest says it has closed', () => {
    const bench = new SessionBench({ speakFirst: false }).attach();
    bench.chardev.connect();
    bench.speak('hello');
    bench.session.setGuestOpen(true);
    bench.session.setGuestOpen(false);
    bench.chardev.send(Buffer.from('anybody?'));
    expect(bench.listen().length).toBe(0);
    bench.session.setGuestOpen(true);
    expect(bench.listen().toString()).toBe('anybody?');
  });

  it('is none when its ring has been used before this daemon came', () => {
    const bench = new SessionBench({ speakFirst: false }).attach(new GuestRing({ out: 5, in: 0 }));
    expect(bench.session.silent).toBe(false);
  });
});

describe('identification', () => {
  it('is answered into the empty ring of a channel that is silent otherwise', () => {
    const bench = new SessionBench({ speakFirst: false }).attach();
    bench.session.identify(NONCE);
    expect(bench.listen().toString()).toBe(`XCID ${NONCE}\n`);
    expect(bench.session.silent).toBe(true);
  });

  it('never mixes with the bytes of a client: they go before it or after it is read', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    bench.chardev.send(Buffer.from('before'));
    bench.session.identify(NONCE);
    bench.chardev.send(Buffer.from('after'));
    expect(bench.listen().toString()).toBe('before');
    expect(bench.listen(10).toString()).toBe(`XCID ${NONCE}`.slice(0, 10));
    expect(bench.listen().toString()).toBe(`XCID ${NONCE}\n`.slice(10));
    expect(bench.listen().toString()).toBe('after');
  });

  it('answers the newest of several questions, once', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    bench.chardev.send(Buffer.from('x'));
    bench.session.identify('aaaaaaaaaaaaaaaa');
    bench.session.identify(NONCE);
    bench.listen();
    expect(bench.listen().toString()).toBe(`XCID ${NONCE}\n`);
    expect(bench.listen().length).toBe(0);
    expect(bench.session.figures().identifyAnswers).toBe(1);
  });
});

describe('a hostile guest', () => {
  it('with impossible indices gets nothing, costs nothing and is told of once', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    bench.guest.set('outProd', OUT_BYTES + 1);
    bench.guest.set('inCons', 77);
    for (let i = 0; i < 10; i++) bench.session.onEvent();
    bench.chardev.send(pattern(10));
    expect(bench.chardev.received.length).toBe(0);
    expect(bench.notifications).toBe(0);
    expect(bench.illegalTold).toBe(1);
    expect(bench.session.figures().illegalIndices).toBeGreaterThanOrEqual(10);
  });

  it('that rings without moving anything is not rung back, and must wait after a while', () => {
    const bench = new SessionBench().attach();
    for (let i = 0; i < MAX_IDLE_EVENTS; i++) bench.session.onEvent();
    expect(bench.unmasks).toBe(MAX_IDLE_EVENTS);
    bench.session.onEvent();
    expect(bench.unmasks).toBe(MAX_IDLE_EVENTS);
    expect(bench.notifications).toBe(0);
    bench.slowed.shift()?.();
    expect(bench.unmasks).toBe(MAX_IDLE_EVENTS + 1);
    bench.speak('real work');
    expect(bench.unmasks).toBe(MAX_IDLE_EVENTS + 2);
  });

  it('whose ring is gone is not unmasked by a pause that still ran', () => {
    const bench = new SessionBench().attach();
    for (let i = 0; i <= MAX_IDLE_EVENTS; i++) bench.session.onEvent();
    bench.session.detachRing({ drain: true });
    bench.slowed.shift()?.();
    expect(bench.unmasks).toBe(MAX_IDLE_EVENTS);
  });
});

describe('an orderly end', () => {
  it('carries over what neither side has, and the successor goes on without loss or repetition', async () => {
    const first = new SessionBench().attach();
    first.chardev.room = 100;
    first.chardev.connect();
    first.speak(pattern(1000));
    first.chardev.send(pattern(3000, 2));
    await first.session.close();
    const state = first.session.state();
    first.session.detachRing({ drain: false });

    const second = new SessionBench();
    second.attach(first.guest);
    second.session.restore(state);
    second.chardev.connect();
    expect(Buffer.concat([first.chardev.received, second.chardev.received]).equals(pattern(1000))).toBe(true);
    const heard: Buffer[] = [];
    for (let i = 0; i < 4; i++) heard.push(second.listen());
    expect(Buffer.concat(heard).equals(pattern(3000, 2))).toBe(true);
    expect(second.session.figures()).toMatchObject({ fromGuestBytes: 1000, deliveredBytes: 1000, toGuestBytes: 3000 });
  });

  it('in the middle of an identification keeps client bytes behind the answer', async () => {
    const first = new SessionBench().attach();
    first.chardev.connect();
    first.session.identify(NONCE);
    first.chardev.send(Buffer.from('client bytes'));
    await first.session.close();
    const state = first.session.state();
    first.session.detachRing({ drain: false });
    const second = new SessionBench().attach(first.guest);
    second.session.restore(state);
    second.session.pump();
    expect(second.listen().toString()).toBe(`XCID ${NONCE}\n`);
    expect(second.listen().toString()).toBe('client bytes');
  });
});

describe('the bell', () => {
  it('needs no more than one write for each piece of a ring', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    for (let i = 0; i < 10; i++) bench.speak(pattern(OUT_BYTES));
    expect(bench.chardev.writes).toBe(10);
    expect(bench.notifications).toBe(10);
    expect(IN_BYTES).toBe(1024);
  });

  it('rings a guest that did not fill its ring after the client has its bytes', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    const hadWhenRung: number[] = [];
    bench.onNotify = () => hadWhenRung.push(bench.chardev.received.length);
    bench.speak('short');
    expect(hadWhenRung).toEqual([5]);
    bench.speak(pattern(OUT_BYTES));
    // This one may wait for the bell to write on: it comes first, and all of it leaves in one write.
    expect(hadWhenRung).toEqual([5, 5]);
  });

  it('looks once more after the bell, because the guest may have gone on without ringing', () => {
    const bench = new SessionBench().attach();
    bench.chardev.connect();
    bench.onNotify = () => {
      bench.onNotify = () => {};
      bench.guest.produce(Buffer.from('second'));
    };
    bench.speak('first ');
    expect(bench.chardev.received.toString()).toBe('first second');
  });
});
