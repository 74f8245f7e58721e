/**
 * Makes events of what one channel's status says, by comparing it with the status that was told last. So a guest that
 * flaps faster than events may come costs nothing but the states in between. Decides nothing.
 */
import type { Logger } from '../base/log.js';
import type { EventDetails, EventLog, EventType } from './events.js';
import type { ChannelStatus } from './status.js';
import { RateLimit, type Timers } from './turns.js';

/** What one channel may put into the common history: no guest pushes the others' events out of it. */
export const LOOK_LIMIT = { count: 20, windowMs: 10_000 };
/** While a channel drops, its count is told this often. */
export const DROP_REPORT_MS = 1000;

export interface ReporterOptions {
  readonly events: EventLog;
  readonly log: Logger;
  readonly clock: ConstructorParameters<typeof RateLimit>[0];
  readonly timers: Timers;
  readonly status: () => ChannelStatus;
}

type News = readonly [type: EventType, details: EventDetails];

export class Reporter {
  readonly #options: ReporterOptions;
  readonly #limit: RateLimit;
  #told: ChannelStatus | undefined;
  #toldDropped = 0;
  #waiting = false;
  #dropTimer = false;
  /** Since the client came last. */
  #dropsLogged = false;

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.#limit = new RateLimit(options.clock, LOOK_LIMIT);
  }

  /** The channel is served. What it brought from the daemon before is not news. */
  appeared(): void {
    const status = this.#options.status();
    const { phase, path, connection } = status;
    this.#told = { ...status, gap: null, problems: [] };
    this.#toldDropped = status.droppedBytes;
    this.#publish(['appeared', { phase, connection, path }]);
    this.look();
  }

  /** Something may have changed. */
  look(): void {
    if (this.#told === undefined || this.#waiting) return;
    const status = this.#options.status();
    const news = compare(this.#told, status);
    if (news.length === 0) return;
    const delayMs = this.#limit.delayMs();
    if (delayMs > 0) {
      this.#waiting = true;
      this.#options.timers.after(delayMs, () => {
        this.#waiting = false;
        this.look();
      });
      return;
    }
    if (status.hostOpen && !this.#told.hostOpen) this.#dropsLogged = false;
    this.#told = status;
    for (const one of news) this.#publish(one);
  }

  /** Called for each piece that was dropped: cheap. */
  dropped(): void {
    if (this.#dropTimer || this.#told === undefined) return;
    const { droppedBytes, spoolLimitBytes } = this.#options.status();
    const bytes = droppedBytes - this.#toldDropped;
    if (bytes <= 0) return;
    this.#toldDropped = droppedBytes;
    if (!this.#dropsLogged) {
      this.#dropsLogged = true;
      this.#options.log.log('warn', 'the spool is full: output of the guest is dropped', {
        droppedBytes,
        spoolLimitBytes,
      });
    }
    this.#publish(['dropped', { bytes, droppedBytes, spoolLimitBytes }]);
    this.#dropTimer = true;
    this.#options.timers.after(DROP_REPORT_MS, () => {
      this.#dropTimer = false;
      this.dropped();
    });
  }

  replaced(by: string): void {
    this.#publish(['client-replaced', { by }]);
  }

  gone(reason: string): void {
    if (this.#told === undefined) return;
    const { fromGuestBytes, toGuestBytes, droppedBytes } = this.#options.status();
    this.#publish(['gone', { reason, fromGuestBytes, toGuestBytes, droppedBytes }]);
    this.#told = undefined;
  }

  #publish([type, details]: News): void {
    const { events, status } = this.#options;
    events.publish(type, this.#told ?? status(), details);
  }
}

function compare(before: ChannelStatus, now: ChannelStatus): News[] {
  const news: News[] = [];
  if (now.phase !== before.phase) {
    if (now.phase === 'connected' || now.phase === 'closing') news.push([now.phase, {}]);
    else if (before.phase !== 'waiting' && before.phase !== 'closed')
      news.push(['disconnected', { frontendState: now.frontendState }]);
  }
  if (now.hostOpen !== before.hostOpen) news.push([now.hostOpen ? 'client-connected' : 'client-gone', {}]);
  if (now.guestOpen === true && before.guestOpen !== true) news.push(['guest-open', {}]);
  if (now.guestOpen !== true && before.guestOpen === true) news.push(['guest-closed', {}]);
  if (now.gap !== null && before.gap === null)
    news.push(['gap', { reason: now.gap.reason, discardedBytes: now.gap.discardedBytes }]);
  const has = ({ problems }: ChannelStatus, code: string, message: string): boolean =>
    problems.some((one) => one.code === code && one.message === message);
  for (const { code, message } of now.problems)
    if (!has(before, code, message)) news.push(['problem', { code, message }]);
  for (const { code, message } of before.problems)
    if (!has(now, code, message)) news.push(['problem-solved', { code }]);
  return news;
}
