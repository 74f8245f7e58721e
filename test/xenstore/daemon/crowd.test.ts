/** Sockets that are read by system calls while many are busy, and by the event loop while few are. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SocketIo } from '../../../src/sys/socket-io.js';
import { XenstoreEngine, XenstoreServer } from '../../../xenstore/index.js';
import { temporaryDirectory } from '../../support/temp-directory.js';
import { until } from '../../support/until.js';
import { decodeAll, encodeRequest } from './conversation.js';

const CLIENTS = 20;
const ROUNDS = 50;

let io: SocketIo;
let server: XenstoreServer;
let path: string;
let guestPath: string;
/** Sockets that have been read by system calls, and how often. */
let watched: number;
let reads: number;

beforeEach(async () => {
  io = new SocketIo();
  watched = 0;
  reads = 0;
  const counting = {
    watch: (fd: number, read: (together: number) => void) => {
      watched++;
      return io.watch(fd, read);
    },
    read: (fd: number, target: Buffer) => {
      reads++;
      return io.read(fd, target);
    },
    write: (fd: number, source: Buffer, length: number) => io.write(fd, source, length),
  };
  const engine = new XenstoreEngine();
  engine.introduceDomain(5);
  server = new XenstoreServer(engine, undefined, { direct: counting });
  const folder = temporaryDirectory();
  path = join(folder, 'dom0');
  guestPath = join(folder, 'dom5');
  await server.listen(path);
  await server.listen(guestPath, 5);
});

afterEach(async () => {
  await server.close();
  io.close();
});

class Client {
  readonly socket: Socket;
  #bytes = Buffer.alloc(0);
  #taken = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
    });
  }

  static async open(at = path): Promise<Client> {
    const socket = connect(at);
    await once(socket, 'connect');
    return new Client(socket);
  }

  get answers(): string[] {
    return decodeAll(this.#bytes);
  }

  async ask(request: string): Promise<string> {
    this.socket.write(encodeRequest(request));
    await until(`the answer to ${request}`, () => this.answers.length > this.#taken);
    return this.answers[this.#taken++] ?? '';
  }
}

async function openMany(): Promise<Client[]> {
  return Promise.all(Array.from({ length: CLIENTS }, () => Client.open()));
}

/** All of them at once, again and again. */
async function beBusy(clients: readonly Client[]): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    const answers = await Promise.all(clients.map((client, i) => client.ask(`WRITE /busy/${i}|${round}`)));
    expect(new Set(answers)).toEqual(new Set(['WRITE OK|']));
  }
}

describe('a crowd of clients', () => {
  it('is answered by system calls, one client alone without', async () => {
    const [first, ...others] = await openMany();
    if (first === undefined) throw new Error('no client');
    for (let round = 0; round < 3 * CLIENTS; round++) expect(await first.ask('READ /tool|')).toBe('READ ');
    expect(watched).toBe(0);
    await beBusy([first, ...others]);
    expect(watched).toBeGreaterThan(CLIENTS / 2);
    const askAlone = async () => {
      for (let round = 0; round < 100; round++) expect(await first.ask('READ /busy/0|')).toBe(`READ ${ROUNDS - 1}`);
    };
    await askAlone();
    const before = reads;
    await askAlone();
    expect(reads).toBe(before);
    await beBusy([first, ...others]);
    expect(reads).toBeGreaterThan(before);
  });

  it('may end at any moment, and what was sent before counts', async () => {
    const clients = await openMany();
    await beBusy(clients);
    for (const [i, { socket }] of clients.entries()) {
      socket.write(encodeRequest(`WRITE /last/${i}|words`));
      if (i % 2 === 0) socket.end();
      else socket.destroy();
    }
    const witness = await Client.open();
    for (let i = 0; i < CLIENTS; i += 2) {
      const client = clients[i] as Client;
      await until('the last answer', () => client.answers.at(-1) === 'WRITE OK|' && client.socket.readableEnded);
      expect(await witness.ask(`READ /last/${i}|`)).toBe('READ words');
    }
    await beBusy([witness, ...(await openMany())]);
  });

  it('has a member that does not read wait, without harm to the others', async () => {
    const slow = await Client.open(guestPath);
    const clients = await openMany();
    await slow.ask('GET_DOMAIN_PATH 5|');
    await beBusy([...clients]);
    slow.socket.pause();
    const requests = 20_000;
    slow.socket.write(Buffer.concat(Array.from({ length: requests }, () => encodeRequest('GET_DOMAIN_PATH 5|'))));
    await beBusy(clients);
    slow.socket.resume();
    await until('all answers', () => slow.answers.length === requests + 1);
    expect(server.counters.overflowed).toBe(0);
  });
});
