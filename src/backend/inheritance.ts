/**
 * What a channel inherits from the daemon before this one: the bytes of an orderly stop, or the knowledge that there was
 * none. Knows no files.
 */
import type { XenbusState } from '../console/xenbus-state.js';
import type { HandoverRecord, ServedRing, Taken } from './handover.js';
import type { SessionState } from './session-types.js';
import type { Gap } from './status.js';

export class Inheritance {
  #record: HandoverRecord | undefined;
  #gap: Omit<Gap, 'at'> | undefined;
  #why = '';

  /** `backendState`: what the backend said when this daemon found it. Connected means that somebody served it. */
  constructor(taken: Taken, backendState: XenbusState | undefined) {
    if (taken.kind === 'record') this.#record = taken.record;
    else if (taken.kind === 'unusable') this.#miss('handover-unusable', 0, taken.why);
    else if (backendState === 'connected') this.#miss('no-handover', 0, 'the daemon before this one died');
  }

  get gap(): Omit<Gap, 'at'> | undefined {
    return this.#gap;
  }

  /** For the log. */
  get why(): string {
    return this.#why;
  }

  /**
   * The bytes, once. `now`: the ring as it is found; undefined where none is mapped, or it is another one: then the bytes
   * are simply older than all that is to come. A ring that moved on was served by somebody in between: what we hold is
   * older than what was seen since, and of no use.
   */
  claim(now: ServedRing | undefined): SessionState | undefined {
    const record = this.#record;
    this.#record = undefined;
    const then = record?.ring;
    if (record === undefined || now === undefined || then === undefined) return record?.session;
    const same = now.ringRef === then.ringRef && now.port === then.port;
    if (!same || (now.outConsumed === then.outConsumed && now.inProduced === then.inProduced)) return record.session;
    const { output, input } = record.session;
    this.#miss('ring-moved-on', output.length + input.length, 'somebody served the ring in between');
    return undefined;
  }

  #miss(reason: Gap['reason'], discardedBytes: number, why: string): void {
    this.#gap = { reason, discardedBytes };
    this.#why = why;
  }
}
