/** The daemon's events as they come, one decoded line at a time. Knows no terminal. */
import { ChannelError } from '../base/errors.js';
import { openStream, type Where } from './control-client.js';

/** Its keys are the daemon's business; `type` is always there. */
export type DaemonEvent = { readonly type: string } & Readonly<Record<string, unknown>>;

export interface EventsRequest {
  readonly domid?: number | undefined;
  readonly name?: string | undefined;
  /** Replays what came after this id first. */
  readonly since?: number | undefined;
  readonly signal: AbortSignal;
}

/** A line of the daemon is shorter by far; what is longer comes from something else. */
const MAX_LINE_CHARACTERS = 64 * 1024;

/**
 * Ends when the daemon stops in order. Throws `daemon-unreachable` when it is not there or goes without a word, and the
 * reason of the signal.
 */
export async function* followEvents(where: Where, { signal, ...wanted }: EventsRequest): AsyncGenerator<DaemonEvent> {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(wanted)) if (value !== undefined) query.set(key, String(value));
  const response = await openStream(where, `/v1/events?${query}`, signal);
  if (response.statusCode !== 200) {
    response.destroy();
    throw new ChannelError('daemon-unreachable', `the daemon tells no events: it answers ${response.statusCode}`, {
      code: response.statusCode ?? null,
    });
  }
  let rest = '';
  try {
    for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
      const lines = `${rest}${chunk}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) yield decode(line);
      if (rest.length > MAX_LINE_CHARACTERS) throw new Error(`a line of more than ${MAX_LINE_CHARACTERS} characters`);
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof ChannelError) throw error;
    throw new ChannelError(
      'daemon-unreachable',
      `the daemon has gone: ${(error as Error).message}`,
      {},
      { cause: error },
    );
  }
}

function decode(line: string): DaemonEvent {
  const value = JSON.parse(line) as { type?: unknown } | null;
  if (typeof value !== 'object' || typeof value?.type !== 'string') throw new Error('a line that is no event');
  return value as DaemonEvent;
}
