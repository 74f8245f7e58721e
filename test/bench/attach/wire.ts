/**
 * Stands between xenstore clients and their daemon: counts what passes, and can make every answer late, which shows how
 * many round trips lie on a path. Changes no byte.
 */
import { createServer, connect as dial, type Socket } from 'node:net';
import { MessageDecoder, Op } from '../../../xenstore/index.js';

export class Wire {
  /** Requests of the clients so far. */
  requests = 0;
  /** Transactions that were committed or lost, and those of them that were lost. */
  commits = 0;
  conflicts = 0;
  readonly #target: string;
  readonly #delayMs: number;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((client) => this.#accept(client));

  private constructor(target: string, delayMs: number) {
    this.#target = target;
    this.#delayMs = delayMs;
  }

  /** Clients that connect to `path` reach the daemon at `target`, whose answers and events come `delayMs` late. */
  static async open(path: string, target: string, delayMs: number): Promise<Wire> {
    const wire = new Wire(target, delayMs);
    await new Promise<void>((done) => wire.#server.listen(path, done));
    return wire;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  #accept(client: Socket): void {
    const daemon = dial(this.#target);
    const types: number[] = [];
    const up = new MessageDecoder();
    const down = new MessageDecoder();
    client.on('data', (chunk: Buffer) => {
      up.push(chunk, ({ type, payload }) => {
        this.requests++;
        types.push(type === Op.TransactionEnd && payload[0] === 0x46 ? Op.Read : type);
      });
      daemon.write(chunk);
    });
    daemon.on('data', (chunk: Buffer) => {
      down.push(chunk, ({ type }) => {
        if (type === Op.WatchEvent || types.shift() !== Op.TransactionEnd) return;
        this.commits++;
        if (type === Op.Error) this.conflicts++;
      });
      if (this.#delayMs === 0) client.write(chunk);
      else setTimeout(() => client.writable && client.write(chunk), this.#delayMs);
    });
    for (const [socket, other] of [
      [client, daemon],
      [daemon, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
  }
}
