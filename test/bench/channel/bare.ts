/**
 * The least that a relay through a console ring has to do, in Node: what limit.c does, with the system calls of src/sys and
 * without a session, a spool, a history, an account or a doorbell. To see what of a difference to socat is Node's and the
 * ring's, and what is ours.
 */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { descriptorOf } from '../../../src/chardev/client.js';
import { indexDistance, loadIndex, storeIndex } from '../../../src/console/indices.js';
import { IN_BYTES, OFFSET, OUT_BYTES, PAGE_BYTES, WORD } from '../../../src/console/ring.js';
import { alignedBytes } from '../../../src/sys/memory.js';
import { openSocketIo, type SocketIo } from '../../../src/sys/socket-io.js';

const BUFFER_BYTES = 65536;
const [folder = '.'] = process.argv.slice(2);

/** One direction: parts of the page, and what is read and written, cut once into pieces of a ring. */
interface Direction {
  readonly ring: Uint8Array;
  readonly producer: number;
  readonly consumer: number;
  readonly source: Uint8Array;
  readonly batch: Uint8Array;
  readonly pieces: readonly Uint8Array[];
}

const page = new Uint8Array(PAGE_BYTES);
const words = new Int32Array(page.buffer);

function direction(at: number, ringBytes: number, producer: number, consumer: number): Direction {
  const source = alignedBytes(BUFFER_BYTES);
  const pieces = Array.from({ length: BUFFER_BYTES / ringBytes }, (_, index) =>
    source.subarray(index * ringBytes, (index + 1) * ringBytes),
  );
  const ring = page.subarray(at, at + ringBytes);
  return { ring, producer, consumer, source, batch: alignedBytes(BUFFER_BYTES), pieces };
}

async function client(name: string): Promise<Socket> {
  const server = createServer({ pauseOnConnect: true });
  server.listen(join(folder, name));
  const [socket] = (await once(server, 'connection')) as [Socket];
  server.close();
  return socket;
}

/** As the guest and the backend do it, one ring after the other; always from the ring's beginning, which is the cheapest. */
function throughRing({ ring, producer, consumer, source, batch, pieces }: Direction, count: number): void {
  for (let at = 0, index = 0; at < count; at += ring.length, index++) {
    const piece = pieces[index] ?? source;
    const part = at + ring.length <= count ? piece : piece.subarray(0, count - at);
    ring.set(part);
    storeIndex(words, producer, (loadIndex(words, producer) + part.length) | 0);
    const pending = indexDistance(loadIndex(words, producer), loadIndex(words, consumer));
    batch.set(pending === ring.length ? ring : ring.subarray(0, pending), at);
    storeIndex(words, consumer, (loadIndex(words, consumer) + pending) | 0);
  }
}

function carry(io: SocketIo, from: number, to: Socket, way: Direction): void {
  const target = descriptorOf(to);
  const watch = io.watch(from, () => {
    for (;;) {
      const count = io.read(from, way.source);
      if (count === 0) process.exit();
      if (count < 0) return;
      throughRing(way, count);
      const written = Math.max(0, io.write(target, way.batch, count));
      if (written === count) continue;
      watch.pause();
      to.write(Buffer.from(way.batch.subarray(written, count)), () => watch.resume());
      return;
    }
  });
}

const io = openSocketIo();
if (io === undefined) throw new Error('koffi is needed');
const [guest, host] = [await client('g0'), await client('h0')];
for (const socket of [guest, host]) socket.on('error', () => process.exit());
carry(io, descriptorOf(guest), host, direction(OFFSET.out, OUT_BYTES, WORD.outProd, WORD.outCons));
carry(io, descriptorOf(host), guest, direction(OFFSET.in, IN_BYTES, WORD.inProd, WORD.inCons));
