/** Native channels that are not served as they stand, and why: each told once. */
import type { Logger } from '../base/log.js';
import type { ChannelAddress } from '../console/layout.js';
import type { Finding } from './discovery.js';
import { DAEMON, type EventLog } from './events.js';
import type { DaemonStatus } from './status.js';

type Refusal = DaemonStatus['refused'][number];

export class Refusals {
  readonly #log: Logger;
  readonly #events: EventLog;
  readonly #current = new Map<string, Refusal>();

  constructor(log: Logger, events: EventLog) {
    this.#log = log;
    this.#events = events;
  }

  get size(): number {
    return this.#current.size;
  }

  list(): readonly Refusal[] {
    return [...this.#current.values()];
  }

  note(key: string, { domid, deviceId }: ChannelAddress, finding: Finding): void {
    if (finding.kind !== 'refused') {
      this.#current.delete(key);
      return;
    }
    const { code, message } = finding.error;
    if (this.#current.get(key)?.message !== message) {
      this.#log.log('warn', message, { code, domid, deviceId });
      this.#events.publish('problem', { ...DAEMON, domid, deviceId }, { code, message });
    }
    this.#current.set(key, { domid, deviceId, code, message });
  }
}
