/** Speaks with an engine in a notation that tests can read: `|` is NUL, replies and events are lines of text. */

import { type EngineOptions, XenstoreEngine } from '../../../xenstore/daemon/engine.js';
import type { EngineConnection } from '../../../xenstore/daemon/engine-client.js';
import { decodeHeader, encodeMessage, HEADER_BYTES, Op } from '../../../xenstore/index.js';

/** [who, 'OP payload' or 'OP@transaction payload', ...what everyone gets because of it, in order per connection] */
export type Step = readonly [who: string, request: string, ...expected: string[]];

const OPS: ReadonlyMap<string, number> = new Map(
  Object.entries(Op).map(([name, number]) => [name.replace(/(?<=.)([A-Z])/g, '_$1').toUpperCase(), number]),
);
const NAMES: ReadonlyMap<number, string> = new Map([...OPS].map(([name, number]) => [number, name]));

export function encodeRequest(text: string, requestId = 7): Buffer {
  const [, name = '', transaction = '0', payload = ''] = /^(\w+)(?:@(\d+))? ?([\s\S]*)$/.exec(text) ?? [];
  const type = OPS.get(name) ?? Number(name);
  return encodeMessage(type, requestId, Number(transaction), Buffer.from(payload.replaceAll('|', '\0'), 'latin1'));
}

/** The whole messages: `READ value`, `ERROR ENOENT|`, `WATCH_EVENT path|token|`. */
export function decodeAll(bytes: Buffer): string[] {
  const texts: string[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const header = decodeHeader(bytes, at);
    const end = at + HEADER_BYTES + header.payloadBytes;
    if (end > bytes.length) break;
    const payload = bytes.toString('latin1', at + HEADER_BYTES, end).replaceAll('\0', '|');
    texts.push(`${NAMES.get(header.type) ?? header.type} ${payload}`);
    at = end;
  }
  return texts;
}

export interface Client {
  readonly connection: EngineConnection;
  readonly received: Buffer[];
  closedByServer: boolean;
}

export class Conversation {
  readonly engine: XenstoreEngine;
  readonly #clients = new Map<string, Client>();

  constructor(options: EngineOptions = {}) {
    this.engine = new XenstoreEngine(options);
  }

  /** `dom0`, `dom5`, or a second connection `dom5b`. */
  client(who: string): Client {
    const known = this.#clients.get(who);
    if (known !== undefined) return known;
    const received: Buffer[] = [];
    const client: Client = {
      received,
      closedByServer: false,
      connection: this.engine.connect(
        Number(/\d+/.exec(who)?.[0]),
        (bytes) => received.push(bytes),
        () => {
          client.closedByServer = true;
        },
      ),
    };
    this.#clients.set(who, client);
    return client;
  }

  introduce(...domids: number[]): this {
    for (const domid of domids) this.engine.introduceDomain(domid);
    return this;
  }

  /** What everybody got because of the request: the requester's lines first, then `who line` of the others. */
  ask(who: string, request: string): string[] {
    const requester = this.client(who);
    this.drain();
    requester.connection.push(encodeRequest(request));
    return this.drain(who);
  }

  drain(first?: string): string[] {
    const lines: string[] = [];
    const order = [...this.#clients].sort(([a], [b]) => Number(b === first) - Number(a === first));
    for (const [who, client] of order) {
      const texts = decodeAll(Buffer.concat(client.received));
      client.received.length = 0;
      lines.push(...texts.map((text) => (who === first ? text : `${who} ${text}`)));
    }
    return lines;
  }
}
