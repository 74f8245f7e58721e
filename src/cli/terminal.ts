/**
 * This terminal on one side, a socket on the other, until either ends. Raw mode is undone on every way out; the escape
 * character works wherever it stands in what was typed or pasted.
 */
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Timer } from '../base/clock.js';
import type { Input, Io } from './io.js';

export interface JoinOptions {
  /** The byte that leaves; undefined: none does. Only on terminals. */
  readonly escapeByte: number | undefined;
  /** Leaves when stdin has ended and nothing came for so long; undefined: only the other side ends it then. */
  readonly quitAfterMs?: number | undefined;
}

/** `cut-off`: the other side has gone with bytes of ours unread. */
export type JoinEnd = 'escape' | 'peer-closed' | 'cut-off' | 'quiet';

/** What stdin and stdout are joined with. */
export interface Ends {
  readonly reader: Readable;
  /** undefined: nothing is sent. */
  readonly writer: Socket | undefined;
  close(): void;
}

/** `bytes` up to the escape, and whether it was there. */
export function splitAtEscape(
  bytes: Uint8Array,
  escapeByte: number | undefined,
): { before: Uint8Array; left: boolean } {
  const at = escapeByte === undefined ? -1 : bytes.indexOf(escapeByte);
  return at < 0 ? { before: bytes, left: false } : { before: bytes.subarray(0, at), left: true };
}

/** Resolves with who ended it. Fails with the reason of the signal, or with the error of either end. */
export async function join(io: Io, ends: Ends, { escapeByte, quitAfterMs }: JoinOptions): Promise<JoinEnd> {
  const { reader, writer } = ends;
  const onTerminal = io.stdin.isTTY === true && io.stdin.setRawMode !== undefined;
  const restore = onTerminal ? makeRaw(io.stdin) : (): void => {};
  let quiet: Timer | undefined;
  try {
    return await new Promise<JoinEnd>((settle, fail) => {
      let inputOver = false;
      const waitForQuiet = (): void => {
        quiet?.cancel();
        if (inputOver && quitAfterMs !== undefined) quiet = io.clock.after(quitAfterMs, () => settle('quiet'));
      };
      if (io.signal.aborted) fail(io.signal.reason as Error);
      io.signal.addEventListener('abort', () => fail(io.signal.reason as Error), { once: true });
      io.stdin.on('data', (chunk: Uint8Array) => {
        const { before, left } = splitAtEscape(chunk, onTerminal ? escapeByte : undefined);
        if (before.length > 0 && writer?.write(before) === false) pauseUntilDrained(io.stdin, writer);
        if (left) settle('escape');
      });
      // Whoever pipes data through wants the answer, too.
      io.stdin.on('end', () => {
        inputOver = true;
        writer?.end();
        waitForQuiet();
      });
      reader.on('data', (chunk: Uint8Array) => {
        waitForQuiet();
        if (!io.stdout.write(chunk)) pauseUntilDrained(reader, io.stdout);
      });
      for (const end of new Set<Readable>(writer === undefined ? [reader] : [reader, writer])) {
        end.on('end', () => settle('peer-closed'));
        end.on('error', (error) => (isCutOff(error) ? settle('cut-off') : fail(error)));
      }
      io.stdin.resume();
    });
  } finally {
    quiet?.cancel();
    io.stdin.removeAllListeners('data');
    io.stdin.removeAllListeners('end');
    io.stdin.pause();
    ends.close();
    restore();
  }
}

function isCutOff(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ECONNRESET' || error.code === 'EPIPE';
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
