/**
 * The daemon's control socket: HTTP on a Unix socket, for status and health. Answers what it is given and changes
 * nothing; knows no channel.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type BoundPath, listenAt } from '../chardev/bind.js';
import type { DaemonStatus } from './status.js';

export interface ControlOptions {
  readonly path: string;
  readonly status: () => DaemonStatus;
}

const MODE = 0o660;
const MAX_CONNECTIONS = 32;
const MAX_HEADER_BYTES = 8192;
const MAX_REQUESTS_PER_CONNECTION = 1000;
/** A client that does not finish its request, or keeps a connection without using it. */
const REQUEST_TIMEOUT_MS = 5000;
const KEEP_ALIVE_MS = 5000;

export class ControlServer {
  readonly #options: ControlOptions;
  readonly #server: Server;
  #bound: BoundPath | undefined;

  constructor(options: ControlOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: REQUEST_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_MS,
      },
      (request, response) => this.#answer(request, response),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.maxRequestsPerSocket = MAX_REQUESTS_PER_CONNECTION;
  }

  /** Throws ChannelError `path-in-use` when another daemon listens there. */
  async start(): Promise<void> {
    this.#bound = await listenAt(this.#server, { path: this.#options.path, mode: MODE });
  }

  async stop(): Promise<void> {
    this.#bound?.remove();
    if (!this.#server.listening) return;
    await new Promise<void>((settle) => {
      this.#server.close(() => settle());
      this.#server.closeAllConnections();
    });
  }

  abandon(): void {
    if (!this.#server.listening) return;
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    // Nobody is asked for a body; what comes is thrown away by the limits on the request.
    request.resume();
    const path = (request.url ?? '').split('?', 1)[0];
    const body = path === '/v1/status' ? this.#options.status() : path === '/v1/health' ? { ok: true } : undefined;
    if (body === undefined) send(response, 404, { error: 'not-found' });
    else if (request.method !== 'GET' && request.method !== 'HEAD')
      send(response, 405, { error: 'method-not-allowed' });
    else send(response, 200, body);
  }
}

function send(response: ServerResponse, code: number, body: unknown): void {
  const bytes = Buffer.from(`${JSON.stringify(body)}\n`);
  response.writeHead(code, { 'content-type': 'application/json', 'content-length': bytes.length });
  response.end(bytes);
}
