/** The guest's half of a console ring, as linux:drivers/tty/hvc/hvc_xen.c turns it, for tests without a kernel. */
import { IN_BYTES, OFFSET, OUT_BYTES, PAGE_BYTES, WORD } from '../../src/console/ring.js';

export class GuestRing {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;

  constructor(start = { out: 0, in: 0 }) {
    const page = new ArrayBuffer(PAGE_BYTES);
    this.bytes = new Uint8Array(page);
    this.words = new Int32Array(page);
    this.set('outProd', start.out);
    this.set('outCons', start.out);
    this.set('inProd', start.in);
    this.set('inCons', start.in);
  }

  get(index: keyof typeof WORD): number {
    return Atomics.load(this.words, WORD[index]) >>> 0;
  }

  set(index: keyof typeof WORD, value: number): void {
    Atomics.store(this.words, WORD[index], value | 0);
  }

  get outSpace(): number {
    return OUT_BYTES - ((this.get('outProd') - this.get('outCons')) >>> 0);
  }

  /** Puts as much as fits into `out`; returns how much. */
  produce(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.outSpace);
    const producer = this.get('outProd');
    for (let i = 0; i < count; i++) {
      this.bytes[OFFSET.out + (((producer + i) >>> 0) & (OUT_BYTES - 1))] = bytes[i] ?? 0;
    }
    this.set('outProd', producer + count);
    return count;
  }

  /** Takes at most `limit` bytes out of `in`. */
  consume(limit: number = IN_BYTES): Buffer {
    const consumer = this.get('inCons');
    const count = Math.min(limit, (this.get('inProd') - consumer) >>> 0);
    const bytes = Buffer.alloc(count);
    for (let i = 0; i < count; i++) {
      bytes[i] = this.bytes[OFFSET.in + (((consumer + i) >>> 0) & (IN_BYTES - 1))] ?? 0;
    }
    this.set('inCons', consumer + count);
    return bytes;
  }
}
