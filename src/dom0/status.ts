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

export interface ChannelStatus extends ListedChannel {
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
  const { channels: live, ...daemon } = parseAnswer(answer);
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
    channels: wanted.map((channel) => ({ ...channel, figures: figuresOf(live, channel) })),
    leftOut: listing.leftOut,
  };
}

function parseAnswer(answer: unknown): { channels: readonly Figures[]; [key: string]: unknown } {
  if (!isRecord(answer)) return { channels: [] };
  const channels = Array.isArray(answer['channels']) ? answer['channels'].filter(isRecord) : [];
  return { ...answer, channels };
}

function figuresOf(live: readonly Figures[], { domid, deviceId }: ListedChannel): Figures | null {
  return live.find((one) => one['domid'] === domid && one['deviceId'] === deviceId) ?? null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
