/**
 * The list with the daemon's live figures beside it. xenstore says what should be, the daemon what is; where no daemon
 * answers, that is part of the status.
 */
import type { StoreOperations } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import { printable } from '../console/name.js';
import { fetchDaemonStatus } from './control-client.js';
import type { Dom0Environment } from './environment.js';
import { type ListedChannel, list } from './list.js';

/** What the daemon says of one channel; its keys are the daemon's business. */
export type Figures = Readonly<Record<string, unknown>>;

/** Why the daemon cannot serve a channel as it stands. */
export interface Problem {
  readonly code: string;
  readonly message: string;
}

export interface ChannelStatus extends ListedChannel {
  readonly problems: readonly Problem[];
  readonly figures: Figures | null;
}

export interface Status {
  readonly daemon: { readonly running: boolean; readonly figures: Figures | null };
  readonly channels: readonly ChannelStatus[];
  readonly leftOut: number;
}

export interface StatusRequest {
  readonly domain?: string | undefined;
  readonly name?: string | undefined;
}

/** Throws `channel-not-found` when a name was given that the domain does not have. */
export async function status(store: StoreOperations, request: StatusRequest, env: Dom0Environment): Promise<Status> {
  const [listing, answer] = await Promise.all([list(store, env, request.domain), fetchDaemonStatus(env)]);
  const { channels: live, refused, daemon } = parseAnswer(answer);
  const wanted = listing.channels.filter(({ name }) => request.name === undefined || name === request.name);
  if (request.name !== undefined && wanted.length === 0) {
    throw new ChannelError(
      'channel-not-found',
      `domain ${printable(request.domain ?? '')} has no channel ${printable(request.name)}`,
      { name: request.name.slice(0, 255) },
    );
  }
  return {
    daemon: { running: answer !== undefined, figures: answer === undefined ? null : daemon },
    channels: wanted.map((channel) => ({
      ...channel,
      problems: problemsOf({ live, refused }, channel),
      figures: figuresOf(live, channel),
    })),
    leftOut: listing.leftOut,
  };
}

type Answer = { channels: readonly Figures[]; refused: readonly Figures[]; daemon: Figures };

function parseAnswer(answer: unknown): Answer {
  if (!isRecord(answer)) return { channels: [], refused: [], daemon: {} };
  const { channels, refused, ...daemon } = answer;
  return { channels: records(channels), refused: records(refused), daemon };
}

type Address = { readonly domid: number; readonly deviceId: number };

function figuresOf(live: readonly Figures[], { domid, deviceId }: Address): Figures | null {
  return live.find((one) => one['domid'] === domid && one['deviceId'] === deviceId) ?? null;
}

function problemsOf(
  { live, refused }: { live: readonly Figures[]; refused: readonly Figures[] },
  at: Address,
): Problem[] {
  const refusal = figuresOf(refused, at);
  return [...records(figuresOf(live, at)?.['problems']), ...(refusal === null ? [] : [refusal])].flatMap(
    ({ code, message }) => (typeof code === 'string' && typeof message === 'string' ? [{ code, message }] : []),
  );
}

/** What a running daemon has to say against one channel; undefined: no daemon runs. */
export async function fetchProblems(env: Dom0Environment, at: Address): Promise<readonly Problem[] | undefined> {
  const answer = await fetchDaemonStatus(env);
  if (answer === undefined) return undefined;
  const { channels: live, refused } = parseAnswer(answer);
  return problemsOf({ live, refused }, at);
}

const records = (value: unknown): Figures[] => (Array.isArray(value) ? value.filter(isRecord) : []);

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
