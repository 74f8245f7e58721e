/**
 * The daemon's control socket: HTTP on a Unix socket, for status, metrics, events and what else a host client may ask
 * beside its data. Bounds every request; what the answers mean is the business of others.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type BoundPath, listenAt } from '../chardev/bind.js';
import { type Answer, type ControlHost, json, type PlainAnswer, route } from './control-routes.js';
import { Streams } from './streams.js';

export interface ControlOptions extends ControlHost {
  readonly path: string;
  /** Listens there already: opened by whoever started us, and theirs to remove. */
  readonly fd?: number;
}

const MODE = 0o660;
const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 8192;
const MAX_REQUESTS_PER_CONNECTION = 1000;
/** Nobody is asked for a body. */
const MAX_BODY_BYTES = 4096;
/** A client that does not finish its request, or keeps a connection without using it. */
const REQUEST_TIMEOUT_MS = 5000;
const KEEP_ALIVE_MS = 5000;

export class ControlServer {
  readonly #options: ControlOptions;
  readonly #server: Server;
  readonly #streams = new Streams();
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
    const { path, fd } = this.#options;
    if (fd === undefined) this.#bound = await listenAt(this.#server, { path, mode: MODE });
    else await this.#listenOn(fd);
  }

  async stop(): Promise<void> {
    this.#bound?.remove();
    await this.#streams.finish();
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

  #listenOn(fd: number): Promise<void> {
    return new Promise((settle, fail) => {
      this.#server.once('error', fail);
      this.#server.listen({ fd }, () => {
        this.#server.off('error', fail);
        settle();
      });
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    let bodyBytes = 0;
    request.on('data', (chunk: Buffer) => {
      bodyBytes += chunk.length;
      if (bodyBytes > MAX_BODY_BYTES) request.destroy();
    });
    const answer = this.#route(request);
    if (typeof answer === 'function') {
      if (!answer(this.#streams, response)) send(response, json(503, { error: 'too-many-streams' }));
    } else send(response, answer);
  }

  #route({ method = '', url = '/' }: IncomingMessage): Answer {
    // A request target may be anything that HTTP lets through, as `//` or `http://x y/`.
    if (!url.startsWith('/') || !URL.canParse(url, 'http://control')) return json(400, { error: 'bad-request' });
    const { pathname, searchParams } = new URL(url, 'http://control');
    return route({ method, path: pathname, query: searchParams }, this.#options, this.#streams);
  }
}

function send(response: ServerResponse, { code, contentType, allow, body }: PlainAnswer): void {
  const bytes = Buffer.from(body);
  response.writeHead(code, {
    'content-type': contentType,
    'content-length': bytes.length,
    ...(allow === undefined ? {} : { allow }),
  });
  response.end(bytes);
}
