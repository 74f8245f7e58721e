/** A ring whose two sides run at the same time, as on hardware: two threads with nothing between them but the page. */
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BackendRing, OUT_BYTES, PAGE_BYTES } from '../../src/console/ring.js';

const TOTAL_BYTES = 16 * 1024 * 1024;
/** Neither a divisor of a ring nor of 256, so that a piece in a wrong place is seen. */
const PERIOD = 251;
/** In a row, after which it is over and failed: some seconds. */
const MAX_IDLE_TURNS = 200e6;

/** The guest, as Linux's hvc_xen: writes and reads as much as there is room for, again and again. */
const GUEST = `
const { parentPort, workerData } = require('node:worker_threads');
const { shared, total } = workerData;
const bytes = new Uint8Array(shared), words = new Int32Array(shared);
const [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] = [768, 769, 770, 771];
const distance = (a, b) => (a - b) >>> 0;
parentPort.on('message', () => {
  let sent = 0, received = 0, wrong = -1;
  while ((sent < total || received < total) && wrong < 0) {
    const room = 2048 - distance(sent, Atomics.load(words, OUT_CONS));
    // Bytes first, then the index that speaks of them.
    for (let i = 0; i < room && sent < total; i++, sent++) bytes[1024 + (sent & 2047)] = sent % ${PERIOD};
    Atomics.store(words, OUT_PROD, sent | 0);
    const end = Atomics.load(words, IN_PROD);
    for (; (received | 0) !== end; received++) {
      if (bytes[received & 1023] !== received % ${PERIOD}) { wrong = received; break; }
    }
    Atomics.store(words, IN_CONS, received | 0);
  }
  parentPort.postMessage({ sent, received, wrong });
});
`;

const sequence = Uint8Array.from({ length: 64 * PERIOD }, (_, index) => index % PERIOD);

describe('a ring between two threads', () => {
  const shared = new SharedArrayBuffer(PAGE_BYTES);
  const page = { bytes: new Uint8Array(shared), words: new Int32Array(shared) };
  let guest: Worker;

  beforeAll(() => {
    guest = new Worker(GUEST, { eval: true, workerData: { shared, total: TOTAL_BYTES } });
  });
  afterAll(async () => {
    await guest.terminate();
  });

  it('carries every byte both ways, in order, without a word between them', async () => {
    const done = new Promise((settle) => guest.once('message', settle));
    guest.postMessage('go');
    const ring = new BackendRing(page);
    const piece = new Uint8Array(OUT_BYTES);
    let received = 0;
    let sent = 0;
    let wrongAt = -1;
    let idleTurns = 0;
    while (wrongAt < 0 && (received < TOTAL_BYTES || sent < TOTAL_BYTES) && idleTurns < MAX_IDLE_TURNS) {
      const count = ring.peekOut(piece, 0);
      for (let i = 0; i < count && wrongAt < 0; i++) if (piece[i] !== (received + i) % PERIOD) wrongAt = received + i;
      ring.publishConsumed(count);
      received += count;
      const from = sent % PERIOD;
      const written = ring.writeIn(
        sequence.subarray(from, from + Math.min(TOTAL_BYTES - sent, sequence.length - from)),
      );
      sent += written;
      idleTurns = count + written > 0 ? 0 : idleTurns + 1;
    }
    expect({ wrongAt, received, sent }).toEqual({ wrongAt: -1, received: TOTAL_BYTES, sent: TOTAL_BYTES });
    expect(await done).toEqual({ sent: TOTAL_BYTES, received: TOTAL_BYTES, wrong: -1 });
    expect(ring.illegalIndices).toBe(0);
  });
});
