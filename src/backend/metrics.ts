/**
 * The daemon's figures in the text format of Prometheus, version 0.0.4. Turns a status into text; measures nothing.
 */
import type { ChannelStatus, DaemonStatus } from './status.js';

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export interface BuildInfo {
  readonly version: string;
  readonly node: string;
}

/** Figures of the control socket itself. */
export interface ListenerFigures {
  readonly eventsPublished: number;
  readonly eventsMissed: number;
  readonly listeners: number;
  readonly refusedListeners: number;
}

type Labels = Readonly<Record<string, string | number>>;
type Kind = 'counter' | 'gauge';
type Sample = readonly [labels: Labels, value: number];

interface Family {
  readonly name: string;
  readonly kind: Kind;
  readonly help: string;
  readonly value: (channel: ChannelStatus) => number;
}

const PREFIX = 'xenchannel_';

const counter = (name: string, help: string, value: Family['value']): Family => ({
  name: `channel_${name}_total`,
  kind: 'counter',
  help,
  value,
});
const gauge = (name: string, help: string, value: Family['value']): Family => ({
  name: `channel_${name}`,
  kind: 'gauge',
  help,
  value,
});

/** A figure that not every kind of host end has. */
const ofChardev =
  (key: string) =>
  ({ chardev }: ChannelStatus): number => {
    const value = chardev[key];
    return typeof value === 'number' ? value : 0;
  };

const FAMILIES: readonly Family[] = [
  gauge('connected', 'Both ends of the ring are connected.', ({ phase }) => Number(phase === 'connected')),
  gauge('host_open', 'A writing client is connected in the backend domain.', ({ hostOpen }) => Number(hostOpen)),
  gauge('guest_open', 'The guest claims to hold the channel open.', ({ guestOpen }) => Number(guestOpen === true)),
  counter('from_guest_bytes', 'Bytes taken from the guest.', ({ fromGuestBytes }) => fromGuestBytes),
  counter('to_guest_bytes', 'Bytes put into the ring for the guest.', ({ toGuestBytes }) => toGuestBytes),
  // A client that leaves gives back what it did not read, so this is no counter.
  gauge('delivered_bytes', 'Bytes of the guest handed to clients.', ({ deliveredBytes }) => deliveredBytes),
  counter('dropped_bytes', 'Bytes of the guest thrown away.', ({ droppedBytes }) => droppedBytes),
  counter('stalls', 'How often the guest was held up for a client with a full spool.', ({ stalls }) => stalls),
  counter('stalled_ms', 'How long it was held up, in milliseconds.', ({ stalledMs }) => stalledMs),
  gauge('spool_bytes', 'Bytes of the guest waiting for a client.', ({ spoolBytes }) => spoolBytes),
  gauge('spool_limit_bytes', 'What the spool can hold.', ({ spoolLimitBytes }) => spoolLimitBytes),
  gauge('unconsumed_bytes', 'Bytes for the guest that it has not taken.', ({ unconsumedBytes }) => unconsumedBytes),
  counter('clients', 'Writing clients that were ever connected.', ofChardev('clients')),
  counter('refused_clients', 'Clients sent away because there were too many.', ofChardev('refusedClients')),
  counter('input_dropped_bytes', 'Bytes of clients thrown away.', ofChardev('inputDroppedBytes')),
  gauge('viewers', 'Clients that only look on.', ofChardev('viewers')),
  counter('viewer_dropped_bytes', 'Bytes that slow viewers missed.', ofChardev('viewerDroppedBytes')),
  counter('events', 'Notifications of the guest on its event channel.', ({ events }) => events),
  counter('idle_events', 'Notifications that meant nothing.', ({ idleEvents }) => idleEvents),
  counter('illegal_indices', 'Impossible ring indices of the guest.', ({ illegalIndices }) => illegalIndices),
  counter('malformed', 'Nodes of the guest that make no sense.', ({ malformed }) => malformed),
  counter('connects', 'Rings that were mapped.', ({ connects }) => connects),
  gauge('gaps', 'Restarts after which bytes may be missing or repeated.', ({ gap }) => Number(gap !== null)),
  gauge('problems', 'Why the channel cannot be served at present.', ({ problems }) => problems.length),
];

export function renderMetrics(status: DaemonStatus, build: BuildInfo, listeners: ListenerFigures): string {
  const { channels } = status;
  const plain = (value: number): Sample[] => [[{}, value]];
  return [
    family('build_info', 'gauge', 'Which xenchannel this is.', [[{ version: build.version, node: build.node }, 1]]),
    family('up', 'gauge', 'The daemon runs.', plain(1)),
    family(
      'start_time_seconds',
      'gauge',
      'When the daemon started, since the epoch.',
      plain(Date.parse(status.startedAt) / 1000),
    ),
    family('channels', 'gauge', 'Channels that are served.', plain(channels.length)),
    family('refused_channels', 'gauge', 'Channels that cannot be served as they stand.', plain(status.refused.length)),
    family('state_events_total', 'counter', 'Events published.', plain(listeners.eventsPublished)),
    family('state_events_missed_total', 'counter', 'Events that slow listeners missed.', plain(listeners.eventsMissed)),
    family('listeners', 'gauge', 'Open streams on the control socket.', plain(listeners.listeners)),
    family('refused_listeners_total', 'counter', 'Streams refused: too many.', plain(listeners.refusedListeners)),
    ...FAMILIES.map(({ name, kind, help, value }) =>
      family(
        name,
        kind,
        help,
        channels.map((channel) => [labelsOf(channel), value(channel)]),
      ),
    ),
  ].join('');
}

function labelsOf({ domid, uuid, deviceId, name }: ChannelStatus): Labels {
  return { domid, uuid: uuid ?? '', device_id: deviceId, name };
}

/** A family without samples is not printed. */
function family(name: string, kind: Kind, help: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return '';
  const full = `${PREFIX}${name}`;
  const lines = samples.map(([labels, value]) => `${full}${formatLabels(labels)} ${value}\n`);
  return `# HELP ${full} ${escapeHelp(help)}\n# TYPE ${full} ${kind}\n${lines.join('')}`;
}

function formatLabels(labels: Labels): string {
  const parts = Object.entries(labels).map(([key, value]) => `${key}="${escapeLabel(String(value))}"`);
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

export function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}
