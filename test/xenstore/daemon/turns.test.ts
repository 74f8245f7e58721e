import { connect } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { Turn, Turns } from '../../../xenstore/daemon/turns.js';
import { XenstoreClient, XenstoreEngine, XenstoreServer } from '../../../xenstore/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { temporaryDirectory } from '../../support/temp-directory.js';
import { decodeAll, encodeRequest } from './conversation.js';

let clock: FakeClock;
let turns: Turns;
beforeEach(() => {
  clock = new FakeClock();
  turns = new Turns(clock);
});

/** A client that loses at once, and so is a rival. */
function rival(): { turn: Turn; begin: () => boolean; commit: () => void; lose: () => void; resumed: () => number } {
  const turn = new Turn(turns);
  const done = { conflicts: 1, commits: 0 };
  let resumed = 0;
  turn.stepped({ ...done, open: 0 });
  return {
    turn,
    resumed: () => resumed,
    begin() {
      if (turn.mustWait(() => resumed++)) return false;
      turn.stepped({ ...done, open: 1 });
      return true;
    },
    commit() {
      done.commits++;
      turn.stepped({ ...done, open: 0 });
    },
    lose() {
      done.conflicts++;
      turn.stepped({ ...done, open: 0 });
    },
  };
}

describe('a turn', () => {
  it('is no matter for who never lost to another', () => {
    const other = rival();
    expect(other.begin()).toBe(true);
    const turn = new Turn(turns);
    expect(turn.mustWait(() => {})).toBe(false);
    turn.stepped({ conflicts: 0, commits: 1, open: 0 });
    expect(turn.mustWait(() => {})).toBe(false);
  });

  it('goes around in the order of asking', () => {
    const [a, b, c] = [rival(), rival(), rival()];
    expect([a.begin(), b.begin(), c.begin()]).toEqual([true, false, false]);
    a.commit();
    expect([b.resumed(), c.resumed()]).toEqual([1, 0]);
    expect(a.begin()).toBe(false);
    b.turn.stepped({ conflicts: 1, commits: 0, open: 1 });
    b.commit();
    expect([a.resumed(), c.resumed()]).toEqual([0, 1]);
  });

  it('is kept by who loses all the same', () => {
    const [a, b] = [rival(), rival()];
    a.begin();
    b.begin();
    a.lose();
    expect(a.begin()).toBe(true);
    expect(b.resumed()).toBe(0);
  });

  it('ends after a while where nothing happens, and only then', () => {
    const [a, b, c] = [rival(), rival(), rival()];
    a.begin();
    b.begin();
    c.begin();
    clock.advance(4);
    expect(b.resumed()).toBe(0);
    clock.advance(1);
    expect([b.resumed(), c.resumed()]).toEqual([1, 0]);
    clock.advance(5);
    expect(c.resumed()).toBe(1);
    clock.advance(10);
    expect(clock.pending).toBe(0);
  });

  it('goes on when its owner, or somebody who waits, is gone', () => {
    const [a, b, c] = [rival(), rival(), rival()];
    a.begin();
    b.begin();
    c.begin();
    b.turn.leave();
    a.turn.leave();
    expect([b.resumed(), c.resumed()]).toEqual([0, 1]);
  });

  it('is forgotten after many commits without a conflict', () => {
    const [a, b] = [rival(), rival()];
    for (let i = 0; i < 64; i++) {
      expect(a.begin()).toBe(true);
      a.commit();
    }
    expect(b.begin()).toBe(true);
    expect(a.begin()).toBe(true);
  });
});

describe('a server with rival transactions', () => {
  async function serve(engine = new XenstoreEngine()): Promise<{ socket: string; engine: XenstoreEngine }> {
    const socket = join(temporaryDirectory(), 'socket');
    const server = new XenstoreServer(engine);
    await server.listen(socket);
    onTestFinished(() => server.close());
    return { socket, engine };
  }

  it('loses no increment, and hardly ever a try', async () => {
    const { socket } = await serve();
    const clients = await Promise.all(Array.from({ length: 8 }, () => XenstoreClient.connect({ path: socket })));
    await clients[0]?.write('/counter', '0');
    let tries = 0;
    const increment = (client: XenstoreClient): Promise<void> =>
      client.transaction(async (tx) => {
        tries++;
        await tx.write('/counter', String(Number(await tx.readText('/counter')) + 1));
      });
    const work = async (client: XenstoreClient): Promise<void> => {
      for (let i = 0; i < 40; i++) await increment(client);
    };
    await Promise.all(clients.map(work));
    expect(await clients[0]?.readText('/counter')).toBe('320');
    expect(tries).toBeLessThan(320 * 1.5);
    await Promise.all(clients.map((client) => client.close()));
  });

  it('lets a rival that stops in the middle delay the others only shortly', async () => {
    const { socket } = await serve();
    const [a, b] = [dial(socket), dial(socket)];
    // Each loses once to the other, and so both are rivals.
    for (const [id, winner, loser] of [
      [1, a, b],
      [2, b, a],
    ] as const) {
      for (const client of [a, b]) {
        expect(await client(`TRANSACTION_START |`)).toBe(`TRANSACTION_START ${id}|`);
        expect(await client(`WRITE@${id} /x|1`)).toBe('WRITE OK|');
      }
      expect(await winner(`TRANSACTION_END@${id} T|`)).toBe('TRANSACTION_END OK|');
      expect(await loser(`TRANSACTION_END@${id} T|`)).toBe('ERROR EAGAIN|');
    }
    // One of them begins, and nothing more comes from it.
    expect(await a('TRANSACTION_START |')).toBe('TRANSACTION_START 3|');
    expect(await b('TRANSACTION_START |')).toBe('TRANSACTION_START 3|');
  });
});

/** A client that asks one thing at a time. */
function dial(path: string): (request: string) => Promise<string | undefined> {
  const socket = connect(path);
  onTestFinished(() => void socket.destroy());
  return (request) => {
    socket.write(encodeRequest(request));
    return new Promise((settle) => socket.once('data', (chunk: Buffer) => settle(decodeAll(chunk)[0])));
  };
}
