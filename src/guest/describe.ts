/**
 * The channels of this guest as data for `guest list`, `doctor` and the agent's own answers. Reads; changes nothing.
 */
import type { Store } from '../../xenstore/index.js';
import { silentLogger } from '../base/log.js';
import type { XenbusState } from '../console/xenbus-state.js';
import type { Certainty, Reason } from './deduce.js';
import { type ConsoleView, type NameProblem, readConsoles, refuseDuplicates } from './frontend.js';
import { LinkSet } from './links.js';
import { LineRecord } from './record.js';

export type ChannelProblem =
  | NameProblem
  | 'not-connected' // the frontend is not in state Connected: no backend, or unplugged
  | 'no-line' // no terminal can be this channel
  | 'line-busy' // its terminal is in use by somebody else
  | 'not-sure-enough' // found, but with less certainty than the configuration asks for
  | 'link-in-the-way' // something that is not ours stands where a link should be
  | 'not-resolved'; // not looked at yet

export interface ResolvedChannel {
  readonly deviceId: number;
  /** A usable name as it is, any other one quoted and escaped. */
  readonly name: string;
  readonly state: XenbusState | 'unreadable';
  /** `/dev/hvcX`, below the root of the guest. */
  readonly tty?: string;
  readonly links: readonly string[];
  readonly sure?: Certainty;
  readonly how?: Reason;
  readonly problem?: { readonly code: ChannelProblem; readonly sentence: string };
}

export const ttyPath = (index: number): string => `/dev/hvc${index}`;

/** What every channel has, whatever is known of its line. */
export function channelBase(view: ConsoleView): Pick<ResolvedChannel, 'deviceId' | 'name' | 'state'> {
  return { deviceId: view.deviceId, name: view.name ?? view.shownName ?? '', state: view.state };
}

export function notConnected(view: ConsoleView): ResolvedChannel['problem'] {
  if (view.state === 'connected') return undefined;
  return { code: 'not-connected', sentence: `console ${view.deviceId} is in state ${view.state}, not connected` };
}

/** The channels as xenstore, the links and the agent's record show them; works without a running agent. */
export async function describeChannels(store: Store, root: string): Promise<ResolvedChannel[]> {
  const links = new LinkSet({ root, log: silentLogger, virtioPorts: true });
  const recorded = await new LineRecord(root).load();
  const owners = new Set(recorded.map(({ deviceId }) => deviceId));
  const views = refuseDuplicates(await readConsoles(store), owners);
  return Promise.all(
    views
      .filter(({ shownName }) => shownName !== undefined)
      .map(async (view): Promise<ResolvedChannel> => {
        const problem = view.problem ?? notConnected(view);
        if (problem !== undefined || view.name === undefined) {
          return { ...channelBase(view), links: [], ...(problem === undefined ? {} : { problem }) };
        }
        const found = await links.find(view.name);
        const entry = recorded.find((line) => line.deviceId === view.deviceId && line.instance === view.instance);
        if (found.index === undefined) {
          const sentence = `no link stands for ${view.shownName}: the agent is not running, or could not tell its line`;
          return { ...channelBase(view), links: [], problem: { code: 'not-resolved', sentence } };
        }
        const sure = entry?.index === found.index ? { sure: entry.sure, how: 'recorded' as const } : {};
        return { ...channelBase(view), tty: ttyPath(found.index), links: found.links, ...sure };
      }),
  );
}
