/** One client in a stress run: asks, keeps events apart, remembers what it has under way. Judges nothing. */
import type { XenstoreEngine } from '../../../xenstore/daemon/engine.js';
import type { EngineConnection } from '../../../xenstore/daemon/engine-client.js';
import type { MessageQueue } from '../../../xenstore/daemon/message-queue.js';
import { decodeHeader, encodeMessage, HEADER_BYTES, Op } from '../../../xenstore/wire.js';
import type { Model } from './stress-model.js';

/** A step can be taken on a model, and says whether its answer would be the same; without effect: it found nothing. */
export type OpenStep = { readonly take: (tree: Model) => boolean; readonly effect: boolean };
export type Open = { readonly id: number; readonly view: Model; readonly steps: OpenStep[]; wrote: boolean };

/** One client: a socket of dom0 or of a guest, or the ring of a guest with an odd number. */
export class Client {
  readonly domid: number;
  readonly #connection: EngineConnection;
  readonly #queue: MessageQueue | undefined;
  #received: Buffer[] = [];
  readonly open: Open[] = [];
  /** Watches by path; the token is the client's own number. */
  readonly watched = new Set<string>();
  events: string[] = [];

  constructor(engine: XenstoreEngine, domid: number) {
    this.domid = domid;
    const ignore = () => {};
    if (domid % 2 === 1) {
      const ends = { onMessages: ignore, onClosedByServer: ignore, onHeard: ignore, now: () => performance.now() };
      const connection = engine.connectQueued(domid, ends);
      this.#connection = connection;
      this.#queue = connection.queue;
    } else this.#connection = engine.connect(domid, (bytes) => this.#received.push(bytes), ignore);
  }

  /** The answer as text, an error as `!ENOENT`. Events are kept apart. */
  ask(type: number, text: string, transaction = 0): string {
    this.#connection.push(encodeMessage(type, 9, transaction, Buffer.from(text, 'latin1')));
    return this.take() ?? 'nothing';
  }

  take(): string | undefined {
    const queue = this.#queue;
    for (let message = queue?.next; message !== undefined; message = queue?.next) {
      this.#received.push(message);
      queue?.sent(message.length);
    }
    if (this.#received.length === 0) return undefined;
    const bytes = Buffer.concat(this.#received);
    this.#received = [];
    let answer: string | undefined;
    for (let at = 0; at < bytes.length; ) {
      const header = decodeHeader(bytes, at);
      const payload = bytes.toString('latin1', at + HEADER_BYTES, at + HEADER_BYTES + header.payloadBytes);
      at += HEADER_BYTES + header.payloadBytes;
      if (header.type === Op.WatchEvent) this.events.push(payload.slice(0, payload.indexOf('\0')));
      else answer = header.type === Op.Error ? `!${payload.slice(0, -1)}` : payload;
    }
    return answer;
  }

  close(): void {
    this.#connection.close();
  }
}
