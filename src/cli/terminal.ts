/**
 * This terminal on one side, a socket on the other, until either ends. Raw mode is undone on every way out; the escape
 * character works wherever it stands in what was typed or pasted.
 */
import type { Socket } from 'node:net';
import type { Input, Io } from './io.js';

export interface JoinOptions {
  readonly readOnly: boolean;
  /** The byte that leaves; undefined: none does. Only on terminals. */
  readonly escapeByte: number | undefined;
}

export type JoinEnd = 'escape' | 'peer-closed';

/** `bytes` up to the escape, and whether it was there. */
export function splitAtEscape(
  bytes: Uint8Array,
  escapeByte: number | undefined,
): { before: Uint8Array; left: boolean } {
  const at = escapeByte === undefined ? -1 : bytes.indexOf(escapeByte);
  return at < 0 ? { before: bytes, left: false } : { before: bytes.subarray(0, at), left: true };
}

/** Resolves with who ended it. Fails with the reason of the signal, or with the socket's error. */
export async function join(io: Io, socket: Socket, { readOnly, escapeByte }: JoinOptions): Promise<JoinEnd> {
  const onTerminal = io.stdin.isTTY === true && io.stdin.setRawMode !== undefined;
  const restore = onTerminal ? makeRaw(io.stdin) : (): void => {};
  try {
    return await new Promise<JoinEnd>((settle, fail) => {
      if (io.signal.aborted) fail(io.signal.reason as Error);
      io.signal.addEventListener('abort', () => fail(io.signal.reason as Error), { once: true });
      io.stdin.on('data', (chunk: Uint8Array) => {
        const { before, left } = splitAtEscape(chunk, onTerminal ? escapeByte : undefined);
        if (!readOnly && before.length > 0 && !socket.write(before)) pauseUntilDrained(io.stdin, socket);
        if (left) settle('escape');
      });
      // Whoever pipes data through wants the answer, too.
      io.stdin.on('end', () => !readOnly && socket.end());
      socket.on('data', (chunk) => {
        if (!io.stdout.write(chunk)) pauseUntilDrained(socket, io.stdout);
      });
      socket.on('end', () => settle('peer-closed'));
      socket.on('error', fail);
      io.stdin.resume();
    });
  } finally {
    io.stdin.removeAllListeners('data');
    io.stdin.removeAllListeners('end');
    io.stdin.pause();
    // What was typed before the escape is on its way: end, do not cut.
    socket.on('error', () => {});
    socket.end();
    socket.unref();
    restore();
  }
}

type Drainable = { once?(event: 'drain', listener: () => void): unknown };

function pauseUntilDrained(source: { pause(): unknown; resume(): unknown }, sink: unknown): void {
  const { once } = sink as Drainable;
  if (once === undefined) return;
  source.pause();
  once.call(sink, 'drain', () => void source.resume());
}

/** Raw mode now, and its undoing for every way out: return, exit, suspension by a signal. */
function makeRaw(stdin: Input): () => void {
  const cooked = (): void => void stdin.setRawMode?.(false);
  const onStop = (): void => {
    cooked();
    process.kill(process.pid, 'SIGSTOP');
  };
  const onContinue = (): void => void stdin.setRawMode?.(true);
  stdin.setRawMode?.(true);
  process.on('exit', cooked).on('SIGTSTP', onStop).on('SIGCONT', onContinue);
  return () => {
    process.off('exit', cooked).off('SIGTSTP', onStop).off('SIGCONT', onContinue);
    cooked();
  };
}
