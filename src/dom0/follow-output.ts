/**
 * A channel's output from an offset on, over slow readers and restarts of the daemon: goes on where it was cut off, and
 * says when bytes cannot be had any more. Takes nothing from the client of the channel. Knows no terminal.
 */
import type { IncomingMessage } from 'node:http';
import { ChannelError } from '../base/errors.js';
import { openStream, parse, readAll, type Where } from './control-client.js';

export type OutputPiece =
  | { readonly kind: 'bytes'; readonly bytes: Buffer; readonly offset: number }
  /** `bytes`: how many cannot be had; undefined: the daemon counts anew, and nobody knows. */
  | { readonly kind: 'missed'; readonly bytes: number | undefined };

export interface OutputRequest {
  readonly domid: number;
  readonly deviceId: number;
  /** undefined: only what comes from now on. */
  readonly since?: number | 'start' | undefined;
  readonly signal: AbortSignal;
}

/** Answers in a row that bring no byte and no news: then something is wrong, and the daemon is left alone. */
const MAX_IDLE_ANSWERS = 5;

/**
 * Ends when the channel is over or the daemon stops. Throws
 * `daemon-unreachable`, `channel-not-found`, `permission-denied`, and the reason of the signal.
 */
export async function* followOutput(where: Where, request: OutputRequest): AsyncGenerator<OutputPiece> {
  const { domid, deviceId, signal } = request;
  let since = request.since;
  for (let idle = 0, first = true; idle < MAX_IDLE_ANSWERS; first = false) {
    const query = new URLSearchParams({ follow: '1' });
    if (since !== undefined) query.set('since', String(since));
    const path = `/v1/channels/${domid}/${deviceId}/output?${query}`;
    const response = await openStream(where, path, signal).catch((error: unknown) => {
      if (first || signal.aborted) throw error;
      return undefined;
    });
    if (response === undefined) return;
    if (response.statusCode === 404 && !first) {
      response.destroy();
      return;
    }
    if (response.statusCode === 416) {
      const next = parseKept(parse(await readAll(response)), since);
      // Nothing new since the end of the last answer: that was the end, or the channel's.
      if (next === undefined) return;
      if (typeof since === 'number') yield { kind: 'missed', bytes: next > since ? next - since : undefined };
      since = next;
      idle++;
      continue;
    }
    if (response.statusCode !== 200) throw await refusal(response, request);
    let offset = Number(response.headers['xenchannel-offset']);
    const begin = offset;
    yield* readPieces(
      response,
      () => offset,
      (count) => {
        offset += count;
      },
    );
    signal.throwIfAborted();
    since = offset;
    idle = offset > begin ? 0 : idle + 1;
  }
}

/** To the end of the answer, or to where it was cut off. */
async function* readPieces(
  response: IncomingMessage,
  offset: () => number,
  advance: (count: number) => void,
): AsyncGenerator<OutputPiece> {
  try {
    for await (const bytes of response as AsyncIterable<Buffer>) {
      yield { kind: 'bytes', bytes, offset: offset() };
      advance(bytes.length);
    }
  } catch {
    // Too slow, or the daemon is gone: the next request tells.
  }
}

/** Where to go on: behind a hole, or where a daemon that counts anew begins. */
function parseKept(body: unknown, since: number | 'start' | undefined): number | undefined {
  const { kept } = (body ?? {}) as { kept?: Record<string, unknown> };
  const { start, last, total } = kept ?? {};
  if (typeof start !== 'number' || typeof last !== 'number' || typeof total !== 'number') return undefined;
  if (typeof since !== 'number' || since > total) return start;
  return since < start ? start : last;
}

async function refusal(response: IncomingMessage, { domid, deviceId }: OutputRequest): Promise<ChannelError> {
  const code = response.statusCode;
  response.destroy();
  return code === 404
    ? new ChannelError('channel-not-found', `the daemon does not serve device ${deviceId} of domain ${domid}`, {
        domid,
        deviceId,
      })
    : new ChannelError('daemon-unreachable', `the daemon gives no output: it answers ${code}`, { code: code ?? null });
}
