/**
 * What has happened to channels: numbered, kept for a while, told to whoever listens. Knows neither sockets nor
 * sessions; a listener that throws or is slow is its own business.
 */
import type { Clock } from '../base/clock.js';

export type EventType =
  /** A channel was found and is served from now on. */
  | 'appeared'
  /** A wanted channel was attached to a domain that came without it. */
  | 'restored'
  | 'connected'
  /** The ring was given back: the guest closed its end or began anew. */
  | 'disconnected'
  /** A detach has begun: the guest is asked to close. */
  | 'closing'
  | 'gone'
  | 'client-connected'
  | 'client-gone'
  /** The writing client was sent away because another asked for its place. */
  | 'client-replaced'
  /** Claims of the guest. */
  | 'guest-open'
  | 'guest-closed'
  /** Bytes of the guest found no room in the spool. Told at most once a second for a channel. */
  | 'dropped'
  /** Bytes may be missing or repeated: the daemon before this one did not stop in order. */
  | 'gap'
  | 'problem'
  | 'problem-solved'
  /** Of the daemon itself. */
  | 'started'
  | 'stopping';

/** Whose event it is; all null for the daemon's own. */
export interface EventSubject {
  readonly domid: number | null;
  readonly uuid: string | null;
  readonly deviceId: number | null;
  readonly name: string | null;
}

export type EventDetails = Readonly<Record<string, string | number | boolean | null>>;

export type ChannelEvent = {
  /** Ascending, also over restarts of the daemon. */
  readonly id: number;
  readonly at: string;
  readonly type: EventType;
} & EventSubject &
  EventDetails;

export const DAEMON: EventSubject = { domid: null, uuid: null, deviceId: null, name: null };

/** Some minutes of a busy host; an event has about 200 bytes. */
export const KEPT_EVENTS = 1024;
/** Leaves room for a thousand events in each millisecond that a daemon ran, before the ids of the next one begin. */
const IDS_PER_MS = 1000;

export interface Replay {
  readonly events: readonly ChannelEvent[];
  /** How many events after the given id are not kept any more; null: another daemon had them. */
  readonly missed: number | null;
}

export class EventLog {
  readonly #clock: Clock;
  readonly #firstId: number;
  readonly #kept: ChannelEvent[] = [];
  readonly #listeners = new Set<(event: ChannelEvent) => void>();
  #nextId: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#firstId = clock.now() * IDS_PER_MS + 1;
    this.#nextId = this.#firstId;
  }

  /** The id of the newest event; one less than the first while there is none. */
  get lastId(): number {
    return this.#nextId - 1;
  }

  get published(): number {
    return this.#nextId - this.#firstId;
  }

  publish(type: EventType, subject: EventSubject, details: EventDetails = {}): void {
    const { domid, uuid, deviceId, name } = subject;
    const at = new Date(this.#clock.now()).toISOString();
    const event = { id: this.#nextId++, at, type, domid, uuid, deviceId, name, ...details };
    this.#kept.push(event);
    if (this.#kept.length > KEPT_EVENTS) this.#kept.shift();
    for (const listener of [...this.#listeners]) listener(event);
  }

  /** What came after the event `id`, as far as it is kept. */
  since(id: number): Replay {
    const oldest = this.#kept[0]?.id ?? this.#nextId;
    const events = this.#kept.filter((event) => event.id > id);
    if (id < this.#firstId - 1 || id > this.lastId) return { events, missed: null };
    return { events, missed: Math.max(0, oldest - id - 1) };
  }

  /** Returns what ends it. */
  listen(listener: (event: ChannelEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
