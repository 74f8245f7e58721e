/** A PTY under a real session: no byte of the guest is lost or repeated, whoever comes and goes on the line. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { BatchBuffers } from '../../src/backend/batch.js';
import { ChannelSession } from '../../src/backend/session.js';
import { PtyChardev } from '../../src/chardev/pty.js';
import { Spool } from '../../src/chardev/spool.js';
import { BackendRing } from '../../src/console/ring.js';
import { FakeClock } from '../support/fake-clock.js';
import { GuestRing } from '../support/guest-ring.js';
import { temporaryDirectory } from '../support/temp-directory.js';
import { until } from '../support/until.js';

const FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;
const byteAt = (offset: number) => (offset * 31 + (offset >> 8)) & 0xff;

async function serve(path: string, guest: GuestRing) {
  const chardev = new PtyChardev({ path, clock: new FakeClock() });
  const session = new ChannelSession({
    chardev,
    spool: new Spool({ limitBytes: 1024 * 1024 }),
    batches: new BatchBuffers(),
    clock: new FakeClock(),
    speakFirst: true,
    hooks: {
      onClient: () => {},
      onIllegalIndex: () => expect.unreachable(),
      onChardevFailure: (error) => {
        throw error;
      },
      defer: (turn) => void setImmediate(turn),
      slowDown: (resume) => void setImmediate(resume),
    },
  });
  await chardev.open(session);
  session.attachRing(new BackendRing(guest), { notify: () => {}, unmask: () => {} });
  return { chardev, session };
}

it('a guest’s stream over a PTY is whole over hasty clients and restarts of the daemon', async () => {
  const path = join(temporaryDirectory(), 'line');
  const guest = new GuestRing();
  const total = 120_000;
  const received: number[] = [];
  let said = 0;
  let { chardev, session } = await serve(path, guest);
  onTestFinished(async () => void (await chardev.close()));
  const speak = () => {
    const count = Math.min(700, total - said);
    said += guest.produce(Buffer.from(Array.from({ length: count }, (_, i) => byteAt(said + i))));
    session.onEvent();
  };
  for (let round = 0; received.length < total; round++) {
    expect(round).toBeLessThan(200);
    for (let i = 0; i < 20; i++) speak();
    const fd = openSync(path, FLAGS);
    await until('client', () => chardev.connected);
    for (let i = 0; i < 5; i++) speak();
    // Reads some of it, never all, and goes.
    const some = Buffer.alloc(3000 + round * 61);
    let have = 0;
    await until('some bytes', () => {
      try {
        have += readSync(fd, some, have, some.length - have, null);
      } catch {
        // Nothing yet.
      }
      return have === some.length || received.length + have === total;
    });
    received.push(...some.subarray(0, have));
    closeSync(fd);
    await until('client gone', () => !chardev.connected);
    if (round % 4 !== 3) continue;
    // An orderly restart: what only the process knew goes to the next one.
    await session.close();
    const state = session.state();
    session.detachRing({ drain: false });
    ({ chardev, session } = await serve(path, guest));
    session.restore(state);
  }
  const wrong = received.findIndex((byte, offset) => byte !== byteAt(offset));
  expect(wrong).toBe(-1);
  expect(session.figures()).toMatchObject({
    fromGuestBytes: total,
    deliveredBytes: total,
    droppedBytes: 0,
    spoolBytes: 0,
  });
});

it('a guest hears what is typed on the line', async () => {
  const guest = new GuestRing();
  const path = join(temporaryDirectory(), 'line');
  const { chardev, session } = await serve(path, guest);
  onTestFinished(async () => void (await chardev.close()));
  // More than the ring holds, from a genuine socat that is gone before the guest has read it all.
  const words = Buffer.from(Array.from({ length: 3000 }, (_, i) => byteAt(i)));
  execFileSync('socat', ['-u', 'STDIN', `FILE:${path},rawer`], { input: words });
  const heard: Buffer[] = [];
  await until('all of it', () => {
    const piece = guest.consume(300);
    if (piece.length > 0) heard.push(piece);
    session.onEvent();
    return Buffer.concat(heard).length === words.length;
  });
  expect(Buffer.concat(heard).equals(words)).toBe(true);
});
