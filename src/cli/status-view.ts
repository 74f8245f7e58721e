/**
 * How a channel's status looks to people: what it is, who is there, what moved, what is wrong. Every figure once; the
 * rest is for --verbose and --json. Asks nobody anything.
 */
import type { ChannelStatus, Figures } from '../dom0/status.js';
import { describeChannelState } from './commands/list.js';
import { formatBytes, formatExactBytes } from './human.js';
import { cell } from './output.js';

type Fact = readonly [label: string, text: string];

/** All lines about one channel, without line ends. */
export function channelLines(channel: ChannelStatus, verbose: boolean): string[] {
  const { name, domid, domain, deviceId, figures } = channel;
  return [
    `${cell(name)} of domain ${domid} (${cell(domain)}), device ${deviceId}`,
    ...channelFacts(channel).map(formatFact),
    ...(verbose && figures !== null ? ['  figures', ...figureLines(figures)] : []),
  ];
}

/** One line for a log or a pipe. */
export function channelLine(channel: ChannelStatus): string {
  const { domid, deviceId, domain, name, figures, problems } = channel;
  const parts = [describeChannelState(channel), hostOpenOf(channel) ? 'client' : 'no client', guestWord(channel)];
  if (figures !== null) {
    parts.push(`from guest ${countOf(figures, 'fromGuestBytes')}`, `to guest ${countOf(figures, 'toGuestBytes')}`);
    parts.push(`spool ${countOf(figures, 'spoolBytes')}`, `dropped ${countOf(figures, 'droppedBytes')}`);
  }
  for (const { code } of problems) parts.push(`problem ${cell(code)}`);
  return `${domid}/${deviceId} ${cell(domain)} ${cell(name)}: ${parts.join(', ')}`;
}

/** Values as the daemon gives them, groups with their name in front. */
export function figureLines(figures: Figures, prefix = ''): string[] {
  return Object.entries(figures).flatMap(([key, value]) => {
    const label = `${prefix}${cell(key, 40)}`;
    if (typeof value === 'object' && value !== null && !Array.isArray(value) && prefix === '') {
      return figureLines(value as Figures, `${label}.`);
    }
    return [`    ${`${label}:`.padEnd(30)} ${cell(typeof value === 'object' ? JSON.stringify(value) : String(value))}`];
  });
}

export function formatFact([label, text]: Fact): string {
  return `  ${label.padEnd(10)} ${text}`;
}

function channelFacts(channel: ChannelStatus): Fact[] {
  const { figures, nameProblem, problems, server } = channel;
  const facts: Fact[] = [
    ['state', describeState(channel)],
    ['host end', describeHostEnd(channel)],
    ['guest', guestWord(channel)],
  ];
  if (figures !== null) facts.push(...figureFacts(figures));
  else if (server === 'native') facts.push(['figures', 'none: the daemon does not serve it']);
  if (nameProblem !== null) facts.push(['name', `not used for links: ${nameProblem}`]);
  for (const { code, message } of problems) facts.push(['problem', `${cell(message, 400)} [${cell(code)}]`]);
  return facts;
}

function describeState(channel: ChannelStatus): string {
  const state = describeChannelState(channel);
  const served = { native: '', qemu: ", served by the domain's QEMU", toolstack: ', served by the toolstack' };
  return `${state}${served[channel.server]}`;
}

function describeHostEnd(channel: ChannelStatus): string {
  const chardev = groupOf(channel.figures, 'chardev');
  // Only one that connects counts that.
  if (typeof chardev?.['failedConnects'] === 'number') return describeServer(channel, chardev);
  const viewers = numberOf(chardev, 'viewers');
  const looking = viewers === 0 ? '' : `, ${viewers} look${viewers === 1 ? 's' : ''} on`;
  const client = hostOpenOf(channel) ? 'a client is connected' : 'no client';
  return `${cell(channel.connection)} ${cell(channel.path)}: ${client}${looking}`;
}

function describeServer(channel: ChannelStatus, chardev: Figures): string {
  const where = `connects to ${cell(channel.path)}`;
  if (hostOpenOf(channel)) return `${where}: connected`;
  const error = chardev['lastError'];
  const why = typeof error === 'string' && error !== '' ? ` (${cell(error)})` : '';
  return `${where}: nobody answers${why}, it is tried again`;
}

/** The daemon knows it at once, xenstore a little later. */
function hostOpenOf({ figures, hostOpen }: ChannelStatus): boolean {
  return figures === null ? hostOpen : figures['hostOpen'] === true;
}

function guestWord({ guestClaimsOpen }: ChannelStatus): string {
  return guestClaimsOpen ? 'open (claimed by the guest)' : 'not known to be open';
}

function figureFacts(figures: Figures): Fact[] {
  const exact = (key: string): string => formatExactBytes(numberOf(figures, key));
  const facts: Fact[] = [['traffic', `${exact('fromGuestBytes')} from the guest, ${exact('toGuestBytes')} to it`]];
  const unconsumed = numberOf(figures, 'unconsumedBytes');
  if (unconsumed > 0) {
    const why = figures['silent'] === true ? ', held back until the guest speaks or claims to be open' : '';
    facts.push(['pending', `${formatExactBytes(unconsumed)} that the guest has not taken${why}`]);
  }
  const limit = numberOf(figures, 'spoolLimitBytes');
  facts.push(['spool', `${exact('spoolBytes')} of ${formatBytes(limit)} wait for a client`]);
  facts.push(['dropped', describeDrops(figures)]);
  const logError = groupOf(figures, 'chardev')?.['logError'];
  if (typeof logError === 'string' && logError !== '') {
    const waiting = formatExactBytes(numberOf(groupOf(figures, 'chardev'), 'logQueueBytes'));
    facts.push(['log', `cannot be written (${cell(logError)}): ${waiting} wait, it is tried again`]);
  }
  const recovered = groupOf(figures, 'recovered');
  if (recovered !== null) {
    const at = cell(String(recovered['at']));
    facts.push(['recovered', `a daemon died before ${at}; nothing of the guest is lost`]);
  }
  const gap = groupOf(figures, 'gap');
  if (gap !== null) {
    const at = `${cell(String(gap['at']))} (${cell(String(gap['reason']))})`;
    facts.push(['gap', `bytes may be missing or repeated around ${at}`]);
  }
  return facts;
}

function describeDrops(figures: Figures): string {
  const chardev = groupOf(figures, 'chardev');
  const drops = [
    [numberOf(figures, 'droppedBytes'), "of the guest's output"],
    [numberOf(chardev, 'inputDroppedBytes'), "of clients' input"],
    [numberOf(chardev, 'viewerDroppedBytes'), 'for slow viewers'],
    [numberOf(chardev, 'logDroppedBytes'), 'for the log'],
  ] as const;
  const told = drops.filter(([bytes]) => bytes > 0).map(([bytes, what]) => `${formatExactBytes(bytes)} ${what}`);
  return told.length === 0 ? 'nothing' : told.join(', ');
}

function countOf(figures: Figures, key: string): string {
  return formatBytes(numberOf(figures, key));
}

function numberOf(figures: Figures | null, key: string): number {
  const value = figures?.[key];
  return typeof value === 'number' ? value : 0;
}

function groupOf(figures: Figures | null, key: string): Figures | null {
  const value = figures?.[key];
  return typeof value === 'object' && value !== null ? (value as Figures) : null;
}
