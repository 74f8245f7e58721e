/** A process of its own that appends and consumes without end, to be killed at any moment. */
import { writeSync } from 'node:fs';
import { FileSpool } from '../../src/chardev/file-spool.js';

const [, , path = '', key = ''] = process.argv;
const { spool } = FileSpool.open({ path, key, limitBytes: 65536, policy: 'drop-oldest' });
spool.setSource({ id: [1, 2], position: 0 });
const pattern = Buffer.from(Array.from({ length: 4096 }, (_, at) => at % 251));
let offset = 0;
for (let round = 0; ; round++) {
  const count = 1 + ((round * 7919) % 2048);
  const piece = pattern.subarray(offset % 251, (offset % 251) + count);
  if (round % 3 === 0) {
    const room = spool.reserve(2048);
    if (room === undefined) spool.append(piece);
    else {
      room.set(piece);
      spool.commit(count);
    }
  } else spool.append(piece);
  offset += count;
  if (round % 5 === 0) spool.consume(Math.min(spool.size, (round * 31) % 9000));
  if (round % 1000 === 999) spool.tidy();
  if (round === 200_000) writeSync(1, 'running');
}
