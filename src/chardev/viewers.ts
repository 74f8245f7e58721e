/**
 * Clients that only look on: each gets the guest's fresh bytes, may miss some when it is slow, and may not write. Knows
 * nothing of the one client that does.
 */
import type { Socket } from 'node:net';
import type { Logger } from '../base/log.js';
import { Client } from './client.js';
import { Spool } from './spool.js';

export const MAX_VIEWERS = 16;
/** What a slow viewer may be behind before it misses bytes. */
export const VIEWER_LIMIT_BYTES = 256 * 1024;

interface Viewer {
  readonly client: Client;
  readonly spool: Spool;
}

export class Viewers {
  readonly #log: Logger;
  readonly #viewers = new Set<Viewer>();
  #admitted = 0;
  #refusedInputs = 0;
  #droppedBytes = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  get count(): number {
    return this.#viewers.size;
  }

  get someEnded(): boolean {
    for (const { client } of this.#viewers) if (client.ended) return true;
    return false;
  }

  admit(socket: Socket, onEnd: () => void): void {
    this.#admitted++;
    this.#log.log('info', 'another client is writing: this one only looks on');
    const client: Client = new Client(socket, {
      onInput: () => this.#refuseInput(client),
      onEnd,
      onWritable: () => flush(viewer),
      onGone: () => this.#remove(viewer),
    });
    const viewer: Viewer = { client, spool: new Spool({ limitBytes: VIEWER_LIMIT_BYTES }) };
    this.#viewers.add(viewer);
    client.resume();
  }

  show(bytes: Uint8Array): void {
    for (const { client, spool } of this.#viewers) {
      const taken = spool.size === 0 ? client.write(bytes) : 0;
      if (taken < bytes.length) this.#droppedBytes += spool.append(bytes.subarray(taken));
    }
  }

  probe(): void {
    for (const { client } of this.#viewers) client.probe();
  }

  close(): void {
    for (const viewer of [...this.#viewers]) {
      flush(viewer);
      viewer.client.close({ drain: false });
    }
  }

  abandon(): void {
    for (const { client } of this.#viewers) client.abandon();
    this.#viewers.clear();
  }

  figures(): Readonly<Record<string, number>> {
    return {
      viewers: this.#viewers.size,
      viewersAdmitted: this.#admitted,
      viewersRefusedForWriting: this.#refusedInputs,
      viewerDroppedBytes: this.#droppedBytes,
    };
  }

  /** Its bytes must not mix with the writer's. A disconnect is the only word every program understands. */
  #refuseInput(client: Client): void {
    this.#refusedInputs++;
    this.#log.log('warn', 'viewer disconnected: it wrote while another client was writing');
    client.close({ drain: false });
  }

  #remove(viewer: Viewer): void {
    this.#viewers.delete(viewer);
  }
}

function flush({ client, spool }: Viewer): void {
  while (spool.size > 0) {
    const piece = spool.peek();
    const taken = client.write(piece);
    spool.consume(taken);
    if (taken < piece.length) return;
  }
}
