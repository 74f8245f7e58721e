/**
 * A xenstore daemon that says exactly what a test tells it to, right or wrong, over a real Unix socket.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeMessage, type Message, MessageDecoder, Op } from '../../xenstore/index.js';

/** Things that arrive one by one and are awaited one by one. */
class Inbox<T> {
  readonly #items: T[] = [];
  readonly #takers: ((item: T) => void)[] = [];

  put(item: T): void {
    const taker = this.#takers.shift();
    if (taker === undefined) this.#items.push(item);
    else taker(item);
  }

  take(): Promise<T> {
    const item = this.#items.shift();
    return item === undefined ? new Promise((resolve) => this.#takers.push(resolve)) : Promise.resolve(item);
  }

  get waiting(): number {
    return this.#items.length;
  }
}

export type Answer = (request: Message, connection: PeerConnection) => void;

/** One accepted connection. Requests wait for `next` unless an automatic answer is set. */
export class PeerConnection {
  readonly closed: Promise<void>;
  readonly socket: Socket;
  /** Sizes of the chunks that came in. */
  readonly chunkBytes: number[] = [];
  readonly #requests = new Inbox<Message>();
  #answer: Answer | undefined;

  constructor(socket: Socket, answer: Answer | undefined) {
    this.socket = socket;
    this.#answer = answer;
    const decoder = new MessageDecoder();
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.chunkBytes.push(chunk.length);
      decoder.push(chunk, (request) => {
        if (this.#answer === undefined) this.#requests.put(request);
        else this.#answer(request, this);
      });
    });
    this.closed = new Promise((resolve) => socket.on('close', () => resolve()));
  }

  /** The next request that was not answered automatically. */
  next(): Promise<Message> {
    return this.#requests.take();
  }

  get waiting(): number {
    return this.#requests.waiting;
  }

  answerWith(answer: Answer | undefined): void {
    this.#answer = answer;
  }

  reply(request: Message, payload: string | Buffer = 'OK\0', type: number = request.type): void {
    this.raw(encodeMessage(type, request.requestId, request.transactionId, Buffer.from(payload)));
  }

  error(request: Message, name: string): void {
    this.reply(request, `${name}\0`, Op.Error);
  }

  event(path: string, token: string): void {
    this.raw(encodeMessage(Op.WatchEvent, 0, 0, Buffer.from(`${path}\0${token}\0`)));
  }

  raw(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  end(): void {
    this.socket.end();
  }
}

export class ScriptedPeer {
  readonly directory = mkdtempSync(join(tmpdir(), 'xenstore-peer-'));
  readonly path = join(this.directory, 'socket');
  readonly #connections = new Inbox<PeerConnection>();
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #answer: Answer | undefined;

  static async start(answer?: Answer): Promise<ScriptedPeer> {
    const peer = new ScriptedPeer();
    peer.#answer = answer;
    await peer.listen();
    return peer;
  }

  /** (Again) accepts connections; with a backlog of one, as genuine daemons do. */
  listen(): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      this.#connections.put(new PeerConnection(socket, this.#answer));
    });
    this.#server = server;
    return new Promise((resolve) => server.listen({ path: this.path, backlog: 1 }, resolve));
  }

  /** How connections made from now on are answered. */
  answerWith(answer: Answer | undefined): void {
    this.#answer = answer;
  }

  accept(): Promise<PeerConnection> {
    return this.#connections.take();
  }

  /** Ends all connections and refuses further ones. */
  async vanish(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      if (this.#server === undefined) resolve();
      else this.#server.close(() => resolve());
    });
    this.#server = undefined;
  }

  async stop(): Promise<void> {
    await this.vanish();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The strings of a payload. */
export function stringsOf(message: Message): string[] {
  return message.payload.toString().replace(/\0$/, '').split('\0');
}
