/** Receives a channel's output as its client: so many bytes, or for so long, or to its end. Knows no files. */
import { ChannelError } from '../base/errors.js';
import type { Dom0Environment } from './environment.js';
import { isWriterPresent } from './figures.js';
import { type HostEnd, openHostEnd } from './open-channel.js';

export interface ReceiveRequest {
  readonly end: HostEnd;
  /** Ends after so many; undefined: at the end of the channel or of the time. */
  readonly bytes?: number | undefined;
  readonly timeoutMs?: number | undefined;
  readonly signal: AbortSignal;
  /** Takes the bytes; the next ones wait for it. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
}

export interface ReceiveResult {
  readonly receivedBytes: number;
  /** Bytes behind the last one wanted that had arrived with it; nobody else gets them. */
  readonly surplusBytes: number;
}

/** Throws `writer-present`; `wait-timeout` and `channel-closed` when fewer came than were asked for. */
export async function receive(request: ReceiveRequest, env: Dom0Environment): Promise<ReceiveResult> {
  const { end, bytes: wanted, timeoutMs, signal, write } = request;
  // Beside another client we would only look on, and miss bytes whenever we are slow.
  if (await isWriterPresent(env, end, signal)) throw writerPresent(end);
  const socket = await openHostEnd(end, signal);
  let expired = false;
  const timer =
    timeoutMs === undefined
      ? undefined
      : env.clock.after(timeoutMs, () => {
          expired = true;
          socket.destroy();
        });
  const onAbort = (): void => void socket.destroy();
  signal.addEventListener('abort', onAbort, { once: true });
  let receivedBytes = 0;
  let surplusBytes = 0;
  try {
    if (wanted === 0) return { receivedBytes, surplusBytes };
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      const piece = wanted === undefined ? chunk : chunk.subarray(0, wanted - receivedBytes);
      await write(piece);
      receivedBytes += piece.length;
      surplusBytes = chunk.length - piece.length;
      if (receivedBytes === wanted) break;
    }
  } catch (error) {
    signal.throwIfAborted();
    // Destroyed by the timer, or reset by the other side: what came counts.
    if (!expired && (error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
  } finally {
    timer?.cancel();
    signal.removeEventListener('abort', onAbort);
    socket.destroy();
  }
  signal.throwIfAborted();
  if (wanted !== undefined && receivedBytes < wanted) throw tooFew(request, receivedBytes, expired);
  return { receivedBytes, surplusBytes };
}

function writerPresent({ label, domid, deviceId }: HostEnd): ChannelError {
  return new ChannelError(
    'writer-present',
    `${label}: another client gets its output; look on with 'xenchannel connect --read-only'`,
    { domid, deviceId },
  );
}

function tooFew(
  { end, bytes = 0, timeoutMs = 0 }: ReceiveRequest,
  receivedBytes: number,
  expired: boolean,
): ChannelError {
  const details = { receivedBytes, leftBytes: bytes - receivedBytes };
  return expired
    ? new ChannelError(
        'wait-timeout',
        `${end.label}: ${receivedBytes} of ${bytes} bytes came within ${timeoutMs / 1000} s`,
        details,
      )
    : new ChannelError('channel-closed', `${end.label}: closed after ${receivedBytes} of ${bytes} bytes`, details);
}
