/** How the daemon keeps a domain from having too much under way, and from having it for too long. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  type Likeness,
  RING_PAGE_BYTES,
  RingPage,
  RingServer,
  XenstoreEngine,
  XenstoreServer,
} from '../../../xenstore/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { temporaryDirectory } from '../../support/temp-directory.js';
import { until } from '../../support/until.js';
import { Conversation, decodeAll, encodeRequest } from './conversation.js';

const EVENT_AGE_MS = 20_000;

/** Domains 5 and 6 on rings, and dom0; all may read and write `/shared`, which is dom0's. */
function newHost(like: Likeness = 'xenstored-4.17') {
  const conversation = new Conversation({ like });
  const clock = new FakeClock();
  const { engine } = conversation.introduce(5, 6);
  const ring = (domid: number) => {
    const bytes = new Uint8Array(RING_PAGE_BYTES);
    const server = new RingServer({ engine, domid, page: bytes, notify: () => {}, clock });
    const page = new RingPage(bytes);
    return {
      server,
      /** Everything must fit into the ring. */
      send(...requests: string[]): void {
        const all = Buffer.concat(requests.map((request) => encodeRequest(request)));
        expect(page.requests.write(all)).toBe(all.length);
        server.poll();
      },
      /** All that is there, whatever the ring holds at a time. */
      receive(): string[] {
        const pieces: Buffer[] = [];
        for (
          let piece = page.responses.read();
          piece !== undefined && piece.length > 0;
          piece = page.responses.read()
        ) {
          pieces.push(piece);
          server.poll();
        }
        return decodeAll(Buffer.concat(pieces));
      },
    };
  };
  const dom0 = (request: string) => conversation.ask('dom0', request);
  dom0('WRITE /shared|');
  dom0('SET_PERMS /shared|b0|');
  return { engine, clock, conversation, dom0, dom5: ring(5), dom6: ring(6) };
}

type Host = ReturnType<typeof newHost>;

/** The figures that CONTROL has for the domain. */
function figures({ dom0 }: Host, domid: number): Record<string, number> {
  const lines = dom0(`CONTROL quota|${domid}|`).find((line) => line.startsWith('CONTROL ')) ?? '';
  return Object.fromEntries(
    [...lines.matchAll(/^(\w+) *: *(\d+)$/gm)].map(([, name, figure]) => [name, Number(figure)]),
  );
}

function fill({ dom0 }: Host, count: number): void {
  for (let i = 0; i < count; i++) dom0(`WRITE /shared/f/${i}-${'x'.repeat(100)}|`);
}

describe('an event that a domain does not take', () => {
  it('is dropped after twenty seconds, unless it has begun to be sent', () => {
    const host = newHost();
    const { dom5, clock, dom0 } = host;
    dom5.send('WATCH /shared|t|');
    dom5.receive();
    fill(host, 20);
    clock.advance(EVENT_AGE_MS - 1);
    dom0('WRITE /shared/late|');
    clock.advance(1);
    const events = dom5.receive();
    // Seven fill the ring, the eighth is half in it.
    expect(events).toHaveLength(9);
    expect(events.at(-1)).toBe('WATCH_EVENT /shared/late|t|');
    expect(dom5.server.counters.droppedEvents).toBe(12);
    expect(figures(host, 5)['memory']).toBe('/shared'.length + 't'.length);
  });

  it('is kept by oxenstored', () => {
    const host = newHost('oxenstored');
    host.dom5.send('WATCH /shared|t|');
    host.dom5.receive();
    fill(host, 20);
    host.clock.advance(10 * EVENT_AGE_MS);
    expect(host.dom5.receive()).toHaveLength(20);
  });

  it('leaves no timer behind', () => {
    const host = newHost();
    host.dom5.send('WATCH /shared|t|');
    host.dom5.receive();
    fill(host, 20);
    expect(host.clock.pending).toBe(1);
    host.dom5.receive();
    expect(host.clock.pending).toBe(0);
    fill(host, 40);
    host.dom5.server.close();
    expect(host.clock.pending).toBe(0);
  });
});

describe('a request of a domain', () => {
  const requests = Array.from({ length: 30 }, (_, i) => `WRITE /shared/${i}|`);

  it('is outstanding until those have been told who watch', () => {
    const host = newHost();
    const { dom5, dom6, dom0, clock } = host;
    dom6.send('WATCH /shared|t|');
    dom6.receive();
    fill(host, 20);
    dom5.send(...requests);
    expect(dom5.receive()).toEqual(Array(20).fill('WRITE OK|'));
    expect(figures(host, 5)['outstanding']).toBe(20);
    expect(dom0('READ /shared/20|')).toEqual(['ERROR ENOENT|']);
    expect(dom6.receive()).toHaveLength(20 + 30);
    expect(dom5.receive()).toEqual(Array(10).fill('WRITE OK|'));
    expect(figures(host, 5)['outstanding']).toBe(0);
    // The same when their age ends it.
    fill(host, 20);
    dom5.send(...requests);
    expect(dom5.receive()).toHaveLength(20);
    clock.advance(EVENT_AGE_MS);
    expect(dom5.receive()).toHaveLength(10);
  });

  it('is outstanding until a client of dom0 takes the event, or goes', () => {
    const host = newHost();
    const { dom5, conversation } = host;
    conversation.ask('dom0b', 'WATCH /shared|t|');
    const { connection } = conversation.client('dom0b');
    connection.hold();
    dom5.send(...requests);
    expect(dom5.receive()).toHaveLength(20);
    connection.release();
    expect(dom5.receive()).toHaveLength(10);
    connection.hold();
    dom5.send(...requests);
    expect(dom5.receive()).toHaveLength(20);
    connection.close();
    expect(dom5.receive()).toHaveLength(10);
    expect(figures(host, 5)['outstanding']).toBe(0);
  });

  it('is over when the domain that would hear of it is gone', () => {
    const host = newHost();
    const { dom5, dom6, engine } = host;
    dom6.send('WATCH /shared|t|');
    dom6.receive();
    fill(host, 20);
    dom5.send(...requests);
    expect(dom5.receive()).toHaveLength(20);
    engine.releaseDomain(6);
    expect(dom5.receive()).toHaveLength(10);
  });
});

describe('memory', () => {
  it('is the owner’s of whoever writes in 4.17, and no concern of dom0 since 4.22', () => {
    for (const [like, answer] of [
      ['xenstored-4.17', 'ERROR EIO|'],
      ['xenstored', 'WRITE OK|'],
    ] as const) {
      const { dom0 } = newHost(like);
      dom0('CONTROL quota|set|memory|1200|');
      dom0('WRITE /local/domain/5|');
      dom0('SET_PERMS /local/domain/5|n5|');
      expect(dom0(`WRITE /local/domain/5/a|${'v'.repeat(1500)}`)).toEqual([answer]);
    }
  });

  it('for longer values and permissions is refused with ENOMEM, and nothing changes', () => {
    const host = newHost();
    const { dom0, dom5 } = host;
    dom0('WRITE /local/domain/5|');
    dom0('SET_PERMS /local/domain/5|n5|');
    dom5.send('WRITE a|v');
    const before = figures(host, 5)['memory'];
    dom0(`CONTROL quota|set|memory|${(before ?? 0) + 8}|`);
    dom5.send('WRITE a|123456789', 'SET_PERMS a|n5|r0|', 'READ a|', 'GET_PERMS a|');
    expect(dom5.receive()).toEqual(['WRITE OK|', 'ERROR ENOMEM|', 'ERROR ENOMEM|', 'READ v', 'GET_PERMS n5|']);
    expect(figures(host, 5)['memory']).toBe(before);
  });

  it('without a limit is not limited', () => {
    const { dom0, dom5 } = newHost('xenstored');
    dom0('SET_QUOTA memory|0|');
    dom0('WRITE /local/domain/5|');
    dom0('SET_PERMS /local/domain/5|n5|');
    dom5.send('WRITE a|v');
    expect(dom5.receive()).toEqual(['WRITE OK|']);
  });

  it('of a loaded tree counts', () => {
    const host = newHost();
    const { engine, dom0 } = host;
    dom0('WRITE /local/domain/5/data|1234');
    dom0('SET_PERMS /local/domain/5|n5|');
    const before = figures(host, 5)['memory'];
    expect(before).toBeGreaterThan(0);
    const dump = engine.dump();
    dom0('RM /local|');
    expect(figures(host, 5)['memory']).toBe(0);
    engine.load(dump);
    engine.load(dump);
    expect(figures(host, 5)['memory']).toBe(before);
  });
});

describe('a domain on a socket', () => {
  async function dial(path: string): Promise<Socket> {
    const socket = connect(path);
    await once(socket, 'connect');
    onTestFinished(() => void socket.destroy());
    return socket;
  }

  it('is not heard while it has too much under way', async () => {
    const engine = new XenstoreEngine();
    engine.introduceDomain(5);
    const server = new XenstoreServer(engine);
    onTestFinished(() => server.close());
    const path = join(temporaryDirectory(), 'dom5');
    await server.listen(path, 5);
    const dom0 = engine.connect(
      0,
      () => {},
      () => {},
    );
    for (const request of ['WRITE /shared|', 'SET_PERMS /shared|b0|', 'WATCH /shared|t|']) {
      dom0.push(encodeRequest(request));
    }
    dom0.hold();
    const guest = await dial(path);
    let received = Buffer.alloc(0);
    guest.on('data', (bytes) => {
      received = Buffer.concat([received, bytes]);
    });
    // More than one piece of what is read at a time.
    const padding = 'v'.repeat(1500);
    guest.write(Buffer.concat(Array.from({ length: 100 }, (_, i) => encodeRequest(`WRITE /shared/${i}|${padding}`))));
    await until('the first answers', () => decodeAll(received).length >= 20);
    expect(decodeAll(received).length).toBeLessThan(100);
    dom0.release();
    await until('all answers', () => decodeAll(received).length === 100);
  });
});
