/**
 * What a channel inherits from the daemon before this one: the bytes of an orderly stop, those that survived a death in
 * the spool's file, or the knowledge that some are lost. Knows no files.
 */
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import type { SpoolFound } from '../chardev/file-spool.js';
import type { SpoolQueue } from '../chardev/spool.js';
import type { XenbusState } from '../console/xenbus-state.js';
import type { HandoverRecord, ServedRing, Taken } from './handover.js';
import type { Resumed } from './resume-ring.js';
import { FILE_CRASH_BOUND, type SessionState } from './session-types.js';
import type { Gap, Recovery } from './status.js';

export interface Legacy {
  readonly handover: Taken;
  readonly found: SpoolFound;
  readonly spool: SpoolQueue;
  /** What the backend said when this daemon found it. Connected means that somebody served it. */
  readonly backendState: XenbusState | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  /** There is a gap, or a recovery. */
  readonly onChange: () => void;
}

const NOTHING = Buffer.alloc(0);

export class Inheritance {
  readonly #spool: SpoolQueue;
  #record: HandoverRecord | undefined;
  /** Connected, and nothing was left: lost, unless nothing had ever come. */
  #nothingLeft = false;
  #survived = false;
  readonly #options: Legacy;
  #gap: Gap | null = null;
  #recovered: Recovery | null = null;

  constructor(options: Legacy) {
    const { handover, found, spool, backendState } = options;
    this.#options = options;
    this.#spool = spool;
    if (handover.kind === 'record') this.#record = handover.record;
    else if (found.kind === 'recovered') this.#survived = true;
    if (handover.kind === 'unusable') this.#miss('handover-unusable', handover.why);
    else if (found.kind === 'unusable') this.#miss('spool-unusable', found.why);
    else if (handover.kind === 'none' && found.kind === 'none' && backendState === 'connected') {
      if (spool.storage === 'file') this.#nothingLeft = true;
      else this.#miss('no-handover', 'the daemon before this one died');
    }
  }

  get gap(): Gap | null {
    return this.#gap;
  }

  get recovered(): Recovery | null {
    return this.#recovered;
  }

  /**
   * The bytes, once. `now`: the ring as it is found; undefined where none is mapped, or it is another one: then the bytes
   * are simply older than all that is to come. A ring that moved on was served by somebody in between: what an orderly
   * stop left is older than what was seen since, and of no use.
   */
  claim(now: ServedRing | undefined): SessionState | undefined {
    if (this.#nothingLeft && (now === undefined || now.outConsumed !== 0 || now.inProduced !== 0)) {
      this.#miss('no-handover', 'the daemon before this one died');
    }
    this.#nothingLeft = false;
    if (this.#survived) return this.#survivor();
    const record = this.#record;
    this.#record = undefined;
    if (record !== undefined) this.#audit(record.session);
    const then = record?.ring;
    if (record === undefined || now === undefined || then === undefined) return record?.session;
    const same = now.ringRef === then.ringRef && now.port === then.port;
    if (!same || (now.outConsumed === then.outConsumed && now.inProduced === then.inProduced)) return record.session;
    const { output, input } = record.session;
    const discardedBytes = output.length + input.length + this.#spool.size;
    this.#spool.consume(this.#spool.size);
    this.#miss('ring-moved-on', 'somebody served the ring in between', { discardedBytes });
    return undefined;
  }

  /** What was found when the first ring was attached. */
  resumed({ skippedBytes, missedBytes }: Resumed): void {
    if (this.#recovered !== null) this.#recovered = { ...this.#recovered, skippedBytes };
    if (missedBytes === 0) return;
    const { received } = this.#spool;
    const range = { fromOffset: received, toOffset: received + missedBytes, lostBytes: missedBytes };
    this.#miss('ring-moved-on', 'somebody served the ring in between', range);
  }

  /** The daemon was killed, and the guest's bytes are all there. */
  #survivor(): SessionState {
    this.#survived = false;
    const { size, dropped, received } = this.#spool;
    const { repeatedFromGuestBytes: repeatedBytes } = FILE_CRASH_BOUND;
    this.#recovered = { at: this.#now(), bytes: size, fromOffset: received - size, skippedBytes: 0, repeatedBytes };
    this.#options.log.log('info', 'the guest lost nothing by the death of a daemon', { bytes: size, repeatedBytes });
    return {
      fromGuestBytes: received,
      toGuestBytes: 0,
      deliveredBytes: received - size - dropped,
      droppedBytes: dropped,
      spoken: false,
      answering: false,
      output: NOTHING,
      input: NOTHING,
    };
  }

  /** An orderly stop leaves what it does not carry over in the spool's file. */
  #audit({ fromGuestBytes, deliveredBytes, droppedBytes, output }: SessionState): void {
    const lostBytes = fromGuestBytes - deliveredBytes - droppedBytes - output.length - this.#spool.size;
    if (lostBytes <= 0) return;
    const fromOffset = fromGuestBytes - lostBytes;
    this.#miss('spool-unusable', 'it is not there', { fromOffset, toOffset: fromGuestBytes, lostBytes });
  }

  /** The first is the one that counts. */
  #miss(reason: Gap['reason'], why: string, known: Partial<Omit<Gap, 'reason'>> = {}): void {
    if (this.#gap !== null) return;
    const unknown = { discardedBytes: 0, fromOffset: null, toOffset: null, lostBytes: null };
    const gap = { reason, ...unknown, repeatedBytes: FILE_CRASH_BOUND.repeatedFromGuestBytes, ...known };
    this.#gap = { at: this.#now(), ...gap };
    this.#options.log.log('warn', 'bytes may be missing or repeated', { ...gap, why });
    this.#options.onChange();
  }

  #now(): string {
    return new Date(this.#options.clock.now()).toISOString();
  }
}
