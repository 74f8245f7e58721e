/**
 * Sends bytes into a channel as its writing client, and can wait until the guest has taken the last of them. What the
 * guest says meanwhile is handed on, because it would be lost otherwise. Knows no files and no terminal.
 */
import type { Socket } from 'node:net';
import { ChannelError } from '../base/errors.js';
import type { Dom0Environment } from './environment.js';
import { fetchProgress, isWriterPresent, pollUntil } from './figures.js';
import { type HostEnd, openHostEnd } from './open-channel.js';

export interface SendRequest {
  readonly end: HostEnd;
  readonly source: AsyncIterable<Uint8Array>;
  /** Until the guest has taken everything; else until the daemon or the kernel has it, who deliver it all the same. */
  readonly waitConsumed: boolean;
  /** For the whole of it; undefined: no limit. */
  readonly timeoutMs?: number | undefined;
  readonly signal: AbortSignal;
  readonly onOutput: (bytes: Uint8Array) => void;
  /** `doneBytes`: handed to the kernel, or taken by the guest where that is waited for. */
  readonly onProgress?: (doneBytes: number) => void;
}

export interface SendResult {
  readonly sentBytes: number;
  readonly consumed: boolean;
}

/** Longer than any file takes, and as long as a timer can run. */
const NO_LIMIT_MS = 0x7fffffff;

/** Throws `wait-timeout` with the bytes left, `writer-present`, `channel-closed`, `daemon-unreachable`. */
export async function send(request: SendRequest, env: Dom0Environment): Promise<SendResult> {
  const { end, signal, waitConsumed, timeoutMs } = request;
  await checkNobodyWrites(request, env);
  const socket = await openHostEnd(end, signal);
  const sending = new Sending(socket, request);
  const endMs = env.clock.now() + (timeoutMs ?? NO_LIMIT_MS);
  const timer = env.clock.after(timeoutMs ?? NO_LIMIT_MS, () => sending.expire());
  try {
    await sending.pump();
    timer.cancel();
    if (waitConsumed) await waitUntilConsumed(sending, request, env, endMs);
    return { sentBytes: sending.sentBytes, consumed: waitConsumed };
  } finally {
    timer.cancel();
    sending.close();
  }
}

async function checkNobodyWrites({ end, waitConsumed, signal }: SendRequest, env: Dom0Environment): Promise<void> {
  // Where nobody can say what the guest has taken, nothing is sent.
  if (waitConsumed) await fetchProgress(env, end);
  if (await isWriterPresent(env, end, signal)) throw writerPresent(end);
}

class Sending {
  readonly #socket: Socket;
  readonly #request: SendRequest;
  #sentBytes = 0;
  #stopped: Error | undefined;
  #onStop: (error: Error) => void = () => {};

  constructor(socket: Socket, request: SendRequest) {
    this.#socket = socket;
    this.#request = request;
    const { signal, onOutput } = request;
    socket.on('data', onOutput);
    for (const event of ['end', 'error', 'close']) socket.on(event, this.#onClosed);
    signal.addEventListener('abort', () => this.stop(signal.reason as Error), { once: true });
    if (signal.aborted) this.stop(signal.reason as Error);
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Throws what has ended the sending, if anything. */
  check(): void {
    if (this.#stopped !== undefined) throw this.#stopped;
  }

  stop(error: Error): void {
    this.#stopped ??= error;
    this.#onStop(this.#stopped);
  }

  expire(): void {
    const left = this.#socket.writableLength;
    const { end, timeoutMs = 0 } = this.#request;
    this.stop(
      new ChannelError(
        'wait-timeout',
        `${end.label} took ${this.#sentBytes - left} bytes within ${timeoutMs / 1000} s; ${left} that were read were not sent, nor was what comes behind them`,
        { takenBytes: this.#sentBytes - left, leftBytes: left },
      ),
    );
  }

  /** Everything of the source to the kernel, no faster than it is taken. Then the half that writes is closed. */
  async pump(): Promise<void> {
    for await (const bytes of this.#interruptible(this.#request.source)) {
      this.#sentBytes += bytes.length;
      if (!this.#socket.write(bytes)) await this.#event('drain');
      if (!this.#request.waitConsumed) this.#request.onProgress?.(this.#sentBytes);
    }
    this.check();
    const finished = this.#event('finish');
    this.#socket.end();
    await finished;
  }

  close(): void {
    this.#socket.on('error', () => {});
    // Only ours: a terminal has one by which its descriptor is closed.
    this.#socket.off('data', this.#request.onOutput);
    for (const event of ['end', 'error', 'close']) this.#socket.off(event, this.#onClosed);
    this.#socket.destroy();
  }

  /** The daemon sends away who writes while another client does. */
  readonly #onClosed = (): void => {
    const { end, waitConsumed } = this.#request;
    const what = waitConsumed ? 'taken' : 'sent';
    this.stop(
      new ChannelError(
        'channel-closed',
        `${end.label}: the other side closed the connection before everything was ${what}; another client may be writing, or the channel is gone`,
        { sentBytes: this.#sentBytes },
      ),
    );
  };

  async *#interruptible(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const iterator = source[Symbol.asyncIterator]();
    for (;;) {
      const next = iterator.next();
      next.catch(() => {});
      const { done, value } = await Promise.race([next, this.#stop()]);
      if (done) return;
      yield value;
    }
  }

  #event(name: 'drain' | 'finish'): Promise<unknown> {
    return Promise.race([new Promise<void>((settle) => this.#socket.once(name, () => settle())), this.#stop()]);
  }

  #stop(): Promise<never> {
    return new Promise((_, fail) => {
      this.#onStop = fail;
      if (this.#stopped !== undefined) fail(this.#stopped);
    });
  }
}

async function waitUntilConsumed(
  sending: Sending,
  { end, signal, onProgress, timeoutMs = 0 }: SendRequest,
  env: Dom0Environment,
  endMs: number,
): Promise<void> {
  let leftBytes = sending.sentBytes;
  const done = async (): Promise<boolean> => {
    sending.check();
    const { unconsumedBytes, writerBytes } = await fetchProgress(env, end);
    leftBytes = Math.max(0, sending.sentBytes - writerBytes) + unconsumedBytes;
    onProgress?.(Math.max(0, sending.sentBytes - leftBytes));
    return leftBytes === 0;
  };
  if (await pollUntil(done, { clock: env.clock, endMs, signal })) return;
  throw new ChannelError(
    'wait-timeout',
    `${end.label}: the guest has not taken ${leftBytes} of ${sending.sentBytes} bytes within ${timeoutMs / 1000} s; they are with the daemon, who goes on delivering them`,
    { sentBytes: sending.sentBytes, leftBytes },
  );
}

function writerPresent({ label, domid, deviceId }: HostEnd): ChannelError {
  return new ChannelError(
    'writer-present',
    `${label}: another client is writing; only one may. End it, or send it away with 'xenchannel connect --force'`,
    { domid, deviceId },
  );
}
