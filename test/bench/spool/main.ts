/** What a byte costs on its way through a spool: in memory, and in a file that survives the process. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileSpool } from '../../../src/chardev/file-spool.js';
import { Spool, type SpoolQueue } from '../../../src/chardev/spool.js';

const LIMIT_BYTES = 1024 * 1024;
const ROUND_BYTES = 256 * 1024 * 1024;
const ROUNDS = 5;
/** The file may be slower by no more than this. */
const TARGET_RATIO = 1.25;

type Row = { readonly name: string; readonly pieceBytes: number; readonly batch: number };

const ROWS: readonly Row[] = [
  { name: 'a full ring at a time', pieceBytes: 2048, batch: 1 },
  { name: 'batches of 32 rings', pieceBytes: 2048, batch: 32 },
  { name: 'lines of 80 bytes', pieceBytes: 80, batch: 1 },
  { name: 'a backlog near the limit', pieceBytes: 2048, batch: 480 },
];

/** Nanoseconds per byte, appended and consumed. */
function measure(spool: SpoolQueue, { pieceBytes, batch }: Row, bytes: number): number {
  const piece = Buffer.alloc(pieceBytes, 'x');
  const rounds = Math.ceil(bytes / (pieceBytes * batch) / (pieceBytes < 1000 ? 8 : 1));
  const begin = process.hrtime.bigint();
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < batch; i++) spool.append(piece);
    while (spool.size > 0) spool.consume(spool.peek().length);
  }
  return Number(process.hrtime.bigint() - begin) / (rounds * pieceBytes * batch);
}

const best = (figures: readonly number[]): number => Math.min(...figures);

const directory = mkdtempSync(join(process.env['XENCHANNEL_BENCH_DIR'] ?? tmpdir(), 'xenchannel-bench-'));
let missed = 0;
try {
  for (const [index, row] of ROWS.entries()) {
    const memory = new Spool({ limitBytes: LIMIT_BYTES });
    const path = join(directory, String(index));
    const { spool: file } = FileSpool.open({ path, key: 'bench', limitBytes: LIMIT_BYTES, policy: 'drop-oldest' });
    for (const spool of [memory, file]) measure(spool, row, ROUND_BYTES / 16);
    const figures: [number[], number[]] = [[], []];
    for (let round = 0; round < ROUNDS; round++) {
      figures[0].push(measure(memory, row, ROUND_BYTES));
      figures[1].push(measure(file, row, ROUND_BYTES));
    }
    const [inMemory, inFile] = [best(figures[0]), best(figures[1])];
    const met = inFile <= inMemory * TARGET_RATIO;
    if (!met) missed++;
    const line = [row.name.padEnd(26), inMemory.toFixed(4), inFile.toFixed(4), (inFile / inMemory).toFixed(2)];
    process.stdout.write(`${line.join('  ')}  ${met ? 'met' : 'MISSED'}  (ns/byte in memory, in a file, ratio)\n`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
process.exitCode = missed === 0 ? 0 : 1;
