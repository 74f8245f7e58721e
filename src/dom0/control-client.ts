/**
 * Talks to the daemon's control socket, HTTP on a Unix socket. The daemon is optional in most places: absence is an
 * answer there, not an error. Its addresses are the whole of what this file knows of it.
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { ChannelError } from '../base/errors.js';

/** A daemon that does not answer within this is as good as none. */
const ANSWER_TIMEOUT_MS = 2000;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export type Where = { readonly runDirectory: string };

export interface ControlAnswer {
  readonly code: number;
  /** undefined: it was no JSON. */
  readonly body: unknown;
}

export const controlSocketPath = ({ runDirectory }: Where): string => `${runDirectory}/control.sock`;

/** What the daemon answers; undefined when none does, or not in time. */
export function askDaemon(where: Where, path: string, method = 'GET'): Promise<ControlAnswer | undefined> {
  return new Promise((settle) => {
    const none = (): void => settle(undefined);
    const socketPath = controlSocketPath(where);
    const call = request({ socketPath, path, method, timeout: ANSWER_TIMEOUT_MS, agent: false }, (response) => {
      readAll(response, call).then((bytes) => settle({ code: response.statusCode ?? 0, body: parse(bytes) }), none);
    });
    call.on('timeout', () => call.destroy());
    call.on('error', none);
    call.end();
  });
}

/** An answer that goes on. Throws `daemon-unreachable` and `permission-denied`; the answer may have any code. */
export function openStream(where: Where, path: string, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((settle, fail) => {
    const socketPath = controlSocketPath(where);
    const call = request({ socketPath, path, timeout: ANSWER_TIMEOUT_MS, agent: false }, (response) => {
      // A stream may be silent for as long as nothing happens.
      call.setTimeout(0);
      settle(response);
    });
    call.on('timeout', () => call.destroy(new Error('no answer')));
    call.on('error', (error: NodeJS.ErrnoException) => fail(unreachable(error, socketPath)));
    const onAbort = (): void => {
      fail(signal.reason as Error);
      call.destroy();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    call.on('close', () => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) onAbort();
    call.end();
  });
}

/** The decoded status, or undefined when no daemon gives one. `query`: of which channels. */
export async function fetchDaemonStatus(where: Where, query: Readonly<Record<string, string>> = {}): Promise<unknown> {
  const text = new URLSearchParams(query).toString();
  const answer = await askDaemon(where, text === '' ? '/v1/status' : `/v1/status?${text}`);
  return answer?.code === 200 ? answer.body : undefined;
}

export async function isDaemonRunning(where: Where): Promise<boolean> {
  return (await fetchDaemonStatus(where, { domid: '0' })) !== undefined;
}

/** A whole answer, bounded. */
export async function readAll(response: IncomingMessage, call?: ClientRequest): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) {
      call?.destroy();
      throw new ChannelError('daemon-unreachable', `the daemon answers more than ${MAX_ANSWER_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}

function unreachable(error: NodeJS.ErrnoException, path: string): ChannelError {
  const denied = error.code === 'EACCES' || error.code === 'EPERM';
  const why = denied ? 'you may not open it' : 'is the daemon running?';
  return new ChannelError(
    denied ? 'permission-denied' : 'daemon-unreachable',
    `${path} cannot be asked (${error.code ?? error.message}): ${why}`,
    { path, errno: error.code ?? null },
    { cause: error },
  );
}
