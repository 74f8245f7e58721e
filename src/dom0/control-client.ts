/**
 * Asks the daemon for its live figures: GET /v1/status, HTTP on its control socket. The daemon is optional everywhere
 * here: absence is an answer, not an error. Its address is the whole of what this file knows of it.
 */
import { request } from 'node:http';

/** A daemon that does not answer within this is as good as none. */
const ANSWER_TIMEOUT_MS = 2000;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

type Where = { readonly runDirectory: string };

export const controlSocketPath = ({ runDirectory }: Where): string => `${runDirectory}/control.sock`;

/** The decoded answer, or undefined when no daemon gives one. */
export function fetchDaemonStatus(where: Where): Promise<unknown> {
  return new Promise((settle) => {
    const none = (): void => settle(undefined);
    const call = request(
      { socketPath: controlSocketPath(where), path: '/v1/status', timeout: ANSWER_TIMEOUT_MS },
      (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > MAX_ANSWER_BYTES) call.destroy();
          else chunks.push(chunk);
        });
        response.on('error', none);
        response.on('close', none);
        response.on('end', () => settle(response.statusCode === 200 ? parse(Buffer.concat(chunks)) : undefined));
      },
    );
    call.on('timeout', () => call.destroy());
    call.on('error', none);
    call.end();
  });
}

export async function isDaemonRunning(where: Where): Promise<boolean> {
  return (await fetchDaemonStatus(where)) !== undefined;
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}
