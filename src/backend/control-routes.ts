/**
 * What the control socket answers to which request. Reads what it is given; the one thing it changes is who writes to a
 * channel.
 */
import type { ServerResponse } from 'node:http';
import { ChannelError } from '../base/errors.js';
import { readVersion } from '../base/version.js';
import type { EventLog } from './events.js';
import { METRICS_CONTENT_TYPE, renderMetrics } from './metrics.js';
import type { OutputFeed } from './output-feed.js';
import type { ChannelStatus, DaemonStatus } from './status.js';
import { type Streams, streamEvents, streamOutput } from './streams.js';

/** One channel, as far as the control socket may touch it. */
export interface ControlledChannel {
  readonly output: OutputFeed;
  /** Sends the writing client away, if there is one. */
  releaseWriter(by: string): boolean;
}

export interface ControlHost {
  readonly events: EventLog;
  readonly status: () => DaemonStatus;
  readonly channel: (domid: number, deviceId: number) => ControlledChannel | undefined;
}

export interface ControlRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
}

export interface PlainAnswer {
  readonly code: number;
  readonly contentType: string;
  readonly body: string;
  readonly allow?: string;
}

/** An answer that goes on; false when there are too many of them. */
export type StreamAnswer = (streams: Streams, response: ServerResponse) => boolean;
export type Answer = PlainAnswer | StreamAnswer;

type Handler = (request: ControlRequest, host: ControlHost, streams: Streams) => Answer;

const MAX_BY_CHARACTERS = 100;
const VERSION = readVersion();

const ROUTES: Readonly<Record<string, { readonly method: 'GET' | 'POST'; readonly handle: Handler }>> = {
  '/v1/health': { method: 'GET', handle: () => json(200, { ok: true }) },
  '/v1/status': { method: 'GET', handle: (request, host) => statusAnswer(request, host) },
  '/v1/metrics': { method: 'GET', handle: (_, host, streams) => metricsAnswer(host, streams) },
  '/v1/events': { method: 'GET', handle: (request, host) => eventsAnswer(request, host) },
  '/v1/channels/output': { method: 'GET', handle: (request, host) => outputAnswer(request, host) },
  '/v1/channels/release-writer': { method: 'POST', handle: (request, host) => releaseAnswer(request, host) },
};

const CHANNEL = /^\/v1\/channels\/([^/]+)\/([^/]+)\/([a-z-]+)$/;

/** `/v1/channels/DOMID/DEVICEID/output` is looked up as `/v1/channels/output` with `domid` and `device` in the query. */
export function route(request: ControlRequest, host: ControlHost, streams: Streams): Answer {
  const match = CHANNEL.exec(request.path);
  const query = new URLSearchParams(request.query);
  if (match !== null) {
    query.set('domid', match[1] ?? '');
    query.set('device', match[2] ?? '');
  }
  const key = match === null ? request.path : `/v1/channels/${match[3]}`;
  const found = Object.hasOwn(ROUTES, key) && key.startsWith('/v1/channels/') === (match !== null);
  const { method, handle } = (found && ROUTES[key]) || { method: undefined, handle: undefined };
  if (handle === undefined) return json(404, { error: 'not-found' });
  const allowed = method === 'GET' ? ['GET', 'HEAD'] : ['POST'];
  if (!allowed.includes(request.method)) {
    return { ...json(405, { error: 'method-not-allowed' }), allow: allowed.join(', ') };
  }
  try {
    return handle({ ...request, query }, host, streams);
  } catch (error) {
    if (error instanceof ChannelError && error.code === 'range-gone') {
      return json(416, { error: error.code, message: error.message, kept: error.details });
    }
    if (error instanceof BadQuery) return json(400, { error: 'bad-request', message: error.message });
    throw error;
  }
}

class BadQuery extends Error {}

function statusAnswer({ query }: ControlRequest, { status }: ControlHost): Answer {
  const domid = wholeNumber(query, 'domid');
  const name = query.get('name');
  const found = status();
  const channels = found.channels.filter((channel) => isWanted(channel, domid, name));
  const refused = found.refused.filter((one) => name === null && (domid === undefined || one.domid === domid));
  return json(200, { ...found, channels, refused });
}

function isWanted(channel: ChannelStatus, domid: number | undefined, name: string | null): boolean {
  return (domid === undefined || channel.domid === domid) && (name === null || channel.name === name);
}

function metricsAnswer({ status, events }: ControlHost, streams: Streams): Answer {
  const body = renderMetrics(
    status(),
    { version: VERSION, node: process.version },
    {
      eventsPublished: events.published,
      eventsMissed: streams.missedEvents,
      listeners: streams.count,
      refusedListeners: streams.refused,
    },
  );
  return { code: 200, contentType: METRICS_CONTENT_TYPE, body };
}

function eventsAnswer({ query, method }: ControlRequest, { events, status }: ControlHost): Answer {
  const since = wholeNumber(query, 'since');
  const domid = wholeNumber(query, 'domid');
  const name = query.get('name');
  if (method === 'HEAD') return { code: 200, contentType: 'application/x-ndjson', body: '' };
  const { pid, startedAt } = status();
  return (streams, response) =>
    streamEvents(streams, response, {
      log: events,
      since,
      // What the daemon says of itself concerns everybody.
      wanted: (event) =>
        event.domid === null ||
        ((domid === undefined || event.domid === domid) && (name === null || event.name === name)),
      hello: { pid, startedAt },
    });
}

function outputAnswer(request: ControlRequest, host: ControlHost): Answer {
  const channel = channelOf(request, host);
  if (channel === undefined) return json(404, { error: 'channel-not-found' });
  const { output } = channel;
  const follow = request.query.get('follow') === '1';
  const since =
    request.query.get('since') === 'start' ? output.kept.start : (wholeNumber(request.query, 'since') ?? output.offset);
  if (request.method === 'HEAD') return { code: 200, contentType: 'application/octet-stream', body: '' };
  const earlier = output.read(since);
  return (streams, response) => streamOutput(streams, response, output, { earlier, follow });
}

function releaseAnswer(request: ControlRequest, host: ControlHost): Answer {
  const channel = channelOf(request, host);
  if (channel === undefined) return json(404, { error: 'channel-not-found' });
  // It is printed on the terminal of whoever is sent away.
  const by = (request.query.get('by') ?? '').replace(/[^\x20-\x7e]/g, '?').slice(0, MAX_BY_CHARACTERS);
  return json(200, { released: channel.releaseWriter(by === '' ? 'somebody' : by) });
}

function channelOf({ query }: ControlRequest, host: ControlHost): ControlledChannel | undefined {
  const domid = wholeNumber(query, 'domid');
  const deviceId = wholeNumber(query, 'device');
  return domid === undefined || deviceId === undefined ? undefined : host.channel(domid, deviceId);
}

function wholeNumber(query: URLSearchParams, key: string): number | undefined {
  const text = query.get(key);
  if (text === null) return undefined;
  const value = Number(text);
  if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(value)) throw new BadQuery(`${key} must be a whole number`);
  return value;
}

export function json(code: number, body: unknown): PlainAnswer {
  return { code, contentType: 'application/json', body: `${JSON.stringify(body)}\n` };
}
