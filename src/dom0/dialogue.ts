/**
 * Both directions of a channel for somebody who talks to it: who may write, where the output comes from, and who has
 * taken over. Knows no terminal.
 */
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { ChannelError } from '../base/errors.js';
import { printable } from '../console/name.js';
import { askDaemon } from './control-client.js';
import type { Dom0Environment } from './environment.js';
import { fetchFigures, isWriterPresent } from './figures.js';
import { followOutput } from './follow-output.js';
import { type HostEnd, openHostEnd } from './open-channel.js';

export interface DialogueRequest {
  readonly end: HostEnd;
  readonly readOnly: boolean;
  /** Output from this offset on; undefined: what was kept for the next client, and what comes. */
  readonly since?: number | 'start' | undefined;
  /** Sends a client away that is writing; `by` is what it is told. */
  readonly force?: { readonly by: string } | undefined;
  readonly signal: AbortSignal;
  /** Output that cannot be had; undefined: nobody knows how much. */
  readonly onMissed: (bytes: number | undefined) => void;
}

export interface Dialogue {
  readonly reader: Readable;
  /** undefined: only looking on. */
  readonly writer: Socket | undefined;
  close(): void;
}

/** Throws `writer-present`, `range-gone` (not reached yet), `daemon-unreachable`, `permission-denied`. */
export async function openDialogue(request: DialogueRequest, env: Dom0Environment): Promise<Dialogue> {
  const { end, readOnly, since, force, signal } = request;
  // Only our daemon can show output beside the client, or tell one client from another.
  if (end.server !== 'native') return openForeign(request);
  if (typeof since === 'number') await checkReached(end, since, env);
  if (readOnly) {
    // What comes from now on, not from the moment at which the first answer is on its way.
    const now = since ?? ((await fetchFigures(env, end))?.['fromGuestBytes'] as number | undefined);
    return dialogueOf(followed({ ...request, since: now }, env), undefined);
  }
  if (force !== undefined) await releaseWriter(end, force.by, env);
  else if (await isWriterPresent(env, end, signal)) throw writerPresent(end);
  const socket = await openHostEnd(end, signal);
  if (since === undefined) return dialogueOf(socket, socket);
  // Everything comes by offset then; what the daemon gives its client is the same once more.
  socket.resume();
  return dialogueOf(followed(request, env), socket);
}

/** An offset from before the daemon counted anew, or a mistyped one: from there on nothing would ever come. */
async function checkReached(end: HostEnd, since: number, env: Dom0Environment): Promise<void> {
  const total = (await fetchFigures(env, end))?.['fromGuestBytes'];
  if (typeof total !== 'number' || since <= total) return;
  throw new ChannelError(
    'range-gone',
    `${end.label}: offset ${since} has not been reached yet, the guest has sent ${total} bytes`,
    { since, total },
  );
}

/** Who took our place as the writing client since `startMs`; undefined: nobody did, or nobody can say. */
export async function replacedBy(end: HostEnd, startMs: number, env: Dom0Environment): Promise<string | undefined> {
  const replaced = (await fetchFigures(env, end))?.['replaced'] as { at?: unknown; by?: unknown } | null | undefined;
  if (typeof replaced?.at !== 'string' || typeof replaced.by !== 'string') return undefined;
  return Date.parse(replaced.at) >= startMs ? replaced.by : undefined;
}

async function openForeign({ end, readOnly, since, force, signal }: DialogueRequest): Promise<Dialogue> {
  if (since !== undefined || force !== undefined) {
    throw new ChannelError(
      'usage-invalid',
      `${end.label} is not served by our daemon: nobody keeps its output, and its client cannot be sent away`,
      { server: end.server },
    );
  }
  const socket = await openHostEnd(end, signal);
  return dialogueOf(socket, readOnly ? undefined : socket);
}

function dialogueOf(reader: Readable, writer: Socket | undefined): Dialogue {
  return {
    reader,
    writer,
    close() {
      reader.on('error', () => {});
      // What was written last is on its way: end, do not cut.
      writer?.on('error', () => {});
      writer?.end();
      writer?.unref();
      if (reader !== writer) reader.destroy();
    },
  };
}

function followed({ end, since, signal, onMissed }: DialogueRequest, env: Dom0Environment): Readable {
  const { domid, deviceId } = end;
  const closing = new AbortController();
  const pieces = followOutput(env, { domid, deviceId, since, signal: AbortSignal.any([signal, closing.signal]) });
  const bytes = async function* (): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      if (piece.kind === 'bytes') yield piece.bytes;
      else onMissed(piece.bytes);
    }
  };
  const reader = Readable.from(bytes(), { objectMode: false });
  reader.once('close', () => closing.abort(new Error('closed')));
  return reader;
}

async function releaseWriter(end: HostEnd, by: string, env: Dom0Environment): Promise<void> {
  const path = `/v1/channels/${end.domid}/${end.deviceId}/release-writer?${new URLSearchParams({ by })}`;
  const answer = await askDaemon(env, path, 'POST');
  if (answer?.code === 200) return;
  throw new ChannelError(
    'daemon-unreachable',
    `${end.label}: the daemon cannot be asked to send the other client away${answer === undefined ? '' : ` (it answers ${answer.code})`}; it must run, and its control socket must be yours to open`,
    { domid: end.domid, deviceId: end.deviceId },
  );
}

function writerPresent({ label, domid, deviceId }: HostEnd): ChannelError {
  return new ChannelError(
    'writer-present',
    `${label}: another client is writing; look on with --read-only, or take its place with --force`,
    { domid, deviceId },
  );
}

/** For whoever lost the place: a sentence that says who has it now. */
export function takenOver({ label, domid, deviceId }: HostEnd, by: string): ChannelError {
  return new ChannelError('writer-present', `${label}: ${printable(by, 100)} took over`, { domid, deviceId, by });
}
