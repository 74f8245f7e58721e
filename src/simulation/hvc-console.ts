/**
 * One hypervisor console of a simulated Linux: moves bytes between a tty line and the ring, and counts what would be a
 * spinning vCPU. Knows nothing of xenstore. Source: linux:drivers/tty/hvc/hvc_console.c, hvc_xen.c.
 */
import type { Clock } from '../base/clock.js';
import { IN_BYTES } from '../console/ring.js';
import { type GuestRing, ILLEGAL } from './guest-ring.js';
import type { TtyMaker, TtyPort } from './tty-port.js';

/** N_TTY_BUF_SIZE: a PTY gives no more in one read. */
const READ_BYTES = 4096;
/** Reads of the tty before other work of the event loop gets its turn. */
const MAX_READS_PER_TURN = 64;
/** Shared by all consoles: used between a look into the ring and the write to the line, with nothing in between. */
const inScratch = Buffer.allocUnsafe(IN_BYTES);
const EMPTY = Buffer.alloc(0);

export interface HvcFigures {
  readonly outBytes: number;
  readonly inBytes: number;
  /** Output thrown away because the backend's indices were illegal, as Linux does. */
  readonly discardedBytes: number;
  readonly illegalIndices: number;
  /** Times and milliseconds in which a genuine vCPU would have spun on a full ring; the running time included. */
  readonly spins: number;
  readonly spinMs: number;
  readonly spinning: boolean;
}

export class HvcConsole {
  readonly vtermno: number;
  readonly #ring: GuestRing;
  readonly #notify: () => void;
  readonly #clock: Clock;
  readonly #outScratch = Buffer.allocUnsafeSlow(READ_BYTES);
  #tty: TtyPort | undefined;
  /** Bytes read from the tty that the ring had no room for. */
  #stuck: Buffer = EMPTY;
  #busy = false;
  #again = false;
  #scheduled = false;
  #outBytes = 0;
  #inBytes = 0;
  #discarded = 0;
  #spins = 0;
  #spinMs = 0;
  #spinSince: number | undefined;

  constructor(options: { vtermno: number; ring: GuestRing; notify: () => void; clock: Clock }) {
    this.vtermno = options.vtermno;
    this.#ring = options.ring;
    this.#notify = options.notify;
    this.#clock = options.clock;
  }

  get figures(): HvcFigures {
    const since = this.#spinSince;
    return {
      outBytes: this.#outBytes,
      inBytes: this.#inBytes,
      discardedBytes: this.#discarded,
      illegalIndices: this.#ring.illegalIndices,
      spins: this.#spins,
      spinMs: this.#spinMs + (since === undefined ? 0 : this.#clock.now() - since),
      spinning: since !== undefined,
    };
  }

  get tty(): TtyPort | undefined {
    return this.#tty;
  }

  /** Gives the console a line that applications can open; without one it exists, but nobody reaches it. */
  attachTty(maker: TtyMaker): TtyPort {
    const pump = () => this.pump();
    this.#tty = maker.make({ onOpen: pump, onLastClose: () => {}, onReadable: pump, onWritable: pump });
    return this.#tty;
  }

  /** hvc_remove: applications are hung up, nothing moves any more. */
  hangUp(): void {
    this.#tty?.hangUp();
    this.#tty = undefined;
    this.#stuck = EMPTY;
    this.#endSpin();
  }

  /** The interrupt handler, and whatever else may have made progress possible. Nested calls become one more round. */
  pump(): void {
    this.#again = true;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#again && this.#tty !== undefined) {
        this.#again = false;
        this.#pumpIn(this.#tty);
        if (this.#tty !== undefined) this.#pumpOut(this.#tty);
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Real flow control: what the line does not take stays in the ring. While nobody has it open, that is everything. */
  #pumpIn(tty: TtyPort): void {
    while (tty.isOpen) {
      const count = this.#ring.peekIn(inScratch);
      if (count === ILLEGAL || count === 0) return;
      const taken = tty.write(inScratch.subarray(0, count));
      if (taken === 0) return;
      this.#ring.consumeIn(taken);
      this.#inBytes += taken;
      this.#notify();
      if (taken < count) return;
    }
  }

  #pumpOut(tty: TtyPort): void {
    if (this.#stuck.length > 0) {
      this.#stuck = this.#writeRing(this.#stuck);
      if (this.#stuck.length > 0) return;
      tty.setReading(true);
    }
    for (let reads = 0; this.#tty === tty; reads++) {
      if (reads === MAX_READS_PER_TURN) {
        this.#pumpSoon();
        return;
      }
      const count = tty.read(this.#outScratch);
      if (count === 0) return;
      const rest = this.#writeRing(this.#outScratch.subarray(0, count));
      if (rest.length > 0) {
        this.#stuck = Buffer.from(rest);
        tty.setReading(false);
        return;
      }
    }
  }

  /** Writes until all is gone or the backend leaves the ring full, and returns the rest. */
  #writeRing(bytes: Buffer): Buffer {
    let from = 0;
    while (from < bytes.length) {
      const count = this.#ring.writeOut(bytes, from);
      if (count === ILLEGAL) {
        this.#discarded += bytes.length - from;
        break;
      }
      if (count === 0) {
        if (this.#spinSince === undefined) {
          this.#spins++;
          this.#spinSince = this.#clock.now();
        }
        return bytes.subarray(from);
      }
      from += count;
      this.#outBytes += count;
      this.#notify();
    }
    this.#endSpin();
    return EMPTY;
  }

  #endSpin(): void {
    if (this.#spinSince === undefined) return;
    this.#spinMs += this.#clock.now() - this.#spinSince;
    this.#spinSince = undefined;
  }

  #pumpSoon(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.pump();
    });
  }
}
