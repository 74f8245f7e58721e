/**
 * Which channel has which line, and everything that follows from it: kept lines, links, claims, the record. `update`
 * brings all of it in step with xenstore; when that happens is the agent's business.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store } from '../../xenstore/index.js';
import type { Logger } from '../base/log.js';
import { KEY } from '../console/layout.js';
import { type Certainty, type Finding, isSureEnough, type Reason } from './deduce.js';
import { channelBase, notConnected, type ResolvedChannel, ttyPath } from './describe.js';
import { type ConsoleView, hasPrimaryConsole, ownConsole, readConsoles, refuseDuplicates } from './frontend.js';
import type { Keeper } from './keeper.js';
import type { HeldLine, LineView } from './lines.js';
import type { LinkSet } from './links.js';
import type { LineRecord, RecordedLine } from './record.js';
import type { Resolver } from './resolve.js';

export interface AssignmentsSetup {
  readonly store: Store;
  readonly root: string;
  readonly log: Logger;
  readonly keeper: Keeper;
  readonly resolver: Resolver;
  readonly links: LinkSet;
  readonly record: LineRecord;
  readonly minimum: Certainty;
}

interface Assignment {
  readonly line: HeldLine;
  readonly instance: string;
  readonly sure: Certainty;
  readonly how: Reason;
  /** The claim stands in xenstore: if it goes, the toolstack has made the console anew. */
  claimed: boolean;
}

export interface Outcome {
  /** The consoles are not what they were at the last update. */
  readonly changed: boolean;
  /** Lines were looked for. */
  readonly tried: boolean;
  /** A channel has no line yet; worth another try later. */
  readonly incomplete: boolean;
}

/** What decides about lines; claims and questions of our own are not in it. */
function fingerprint(views: readonly ConsoleView[]): string {
  return JSON.stringify(views.map(({ claim: _, ...rest }) => rest));
}

const isCandidate = (view: ConsoleView): boolean =>
  view.state === 'connected' && view.name !== undefined && view.problem === undefined;

export class Assignments {
  readonly #setup: AssignmentsSetup;
  readonly #assigned = new Map<number, Assignment>();
  #recorded: RecordedLine[] = [];
  #findings: readonly Finding[] = [];
  #lines: readonly LineView[] = [];
  #fingerprint = '';
  /** Device ids that had a claim at the last look. */
  #claims: ReadonlySet<number> = new Set();
  #channels: ResolvedChannel[] = [];

  constructor(setup: AssignmentsSetup) {
    this.#setup = setup;
  }

  get channels(): readonly ResolvedChannel[] {
    return this.#channels;
  }

  async load(): Promise<void> {
    this.#recorded = await this.#setup.record.load();
  }

  /** One comparison of what is with what should be. `due`: look for missing lines though nothing has changed. */
  async update(due: boolean): Promise<Outcome> {
    const { store, keeper, links } = this.#setup;
    const consoles = await readConsoles(store);
    const views = refuseDuplicates(consoles, this.#owners());
    const lost = this.#dropChanged(views);
    const renewed = this.#noteClaims(consoles);
    const changed = lost || renewed || fingerprint(consoles) !== this.#fingerprint;
    this.#fingerprint = fingerprint(consoles);
    await this.#adopt(views);
    // Before a search that may take seconds: a link to a line that is not the channel's any more is worse than none.
    await links.sweep(this.#linkedNames(views));
    const missing = (): ConsoleView[] =>
      views.filter((view) => isCandidate(view) && !this.#assigned.has(view.deviceId));
    const tried = missing().length > 0 && (changed || due);
    if (tried) await this.#search(views);
    if (missing().length === 0) keeper.releaseSpares();
    await this.#publish(views);
    return { changed, tried, incomplete: missing().length > 0 };
  }

  /** Who has its name's links now; at the start, who had them. */
  #owners(): Set<number> {
    const linked = this.#channels.filter(({ links }) => links.length > 0);
    return new Set([...linked, ...this.#recorded].map(({ deviceId }) => deviceId));
  }

  async end(keepLinks: boolean): Promise<void> {
    for (const [deviceId, assignment] of this.#assigned) {
      if (assignment.claimed) await this.#claim(deviceId, '0').catch(() => {}); // the store may be gone already
    }
    if (!keepLinks) await this.#setup.links.sweep(new Set());
    this.#setup.keeper.releaseAll();
  }

  /** Lets go of lines whose console is not the one it was. */
  #dropChanged(views: readonly ConsoleView[]): boolean {
    let dropped = false;
    for (const [deviceId, { line, instance, claimed }] of this.#assigned) {
      const view = views.find((candidate) => candidate.deviceId === deviceId);
      const same = view?.state === 'connected' && view.instance === instance && !(claimed && view.claim === undefined);
      if (same && line.alive()) continue;
      this.#setup.log.log('info', 'channel lost its line', { deviceId, tty: ttyPath(line.index) });
      this.#setup.keeper.release(line.index);
      this.#assigned.delete(deviceId);
      this.#recorded = this.#recorded.filter((entry) => entry.deviceId !== deviceId);
      dropped = true;
    }
    // A spare of a console that has gone would stand in the way of the next one on the same line (hvc_console.c keeps
    // a removed console under its index until the last close).
    if (dropped || this.#someGone(views)) this.#setup.keeper.releaseSpares();
    return dropped;
  }

  /**
   * Whether a claim has gone: then the toolstack has made the console anew, though its ring and port may have the numbers
   * that the kernel has just got back.
   */
  #noteClaims(views: readonly ConsoleView[]): boolean {
    const before = this.#claims;
    this.#claims = new Set(views.filter(({ claim }) => claim !== undefined).map(({ deviceId }) => deviceId));
    return views.some(({ deviceId, claim }) => claim === undefined && before.has(deviceId));
  }

  #someGone(views: readonly ConsoleView[]): boolean {
    if (this.#fingerprint === '') return false;
    const before = JSON.parse(this.#fingerprint) as ConsoleView[];
    return before.some(({ deviceId, instance }) => {
      const now = views.find((view) => view.deviceId === deviceId);
      return now === undefined || now.instance !== instance;
    });
  }

  /** Takes up what the last agent knew, where the console is still the same: nothing is read from a line in use. */
  async #adopt(views: readonly ConsoleView[]): Promise<void> {
    for (const entry of this.#recorded) {
      const view = views.find(({ deviceId }) => deviceId === entry.deviceId);
      if (view === undefined || view.state !== 'connected' || this.#assigned.has(view.deviceId)) continue;
      const same = view.name === entry.name && view.instance === entry.instance && view.claim !== undefined;
      const taken = [...this.#assigned.values()].some(({ line }) => line.index === entry.index);
      if (!same || taken) continue;
      const line = await this.#setup.keeper.takeBusy(entry.index);
      if (line === undefined) continue;
      const { instance, sure } = entry;
      this.#assigned.set(view.deviceId, { line, instance, sure, how: 'recorded', claimed: true });
    }
    this.#recorded = this.#recorded.filter(({ deviceId }) => !this.#assigned.has(deviceId));
  }

  async #search(views: readonly ConsoleView[]): Promise<void> {
    const { store, keeper, resolver, minimum } = this.#setup;
    const taken = new Set([...this.#assigned.values()].map(({ line }) => line.index));
    const consoles = views.filter(({ deviceId }) => !this.#assigned.has(deviceId));
    const [primary, probeOrder] = await Promise.all([hasPrimaryConsole(store), this.#probeOrder()]);
    const { findings, lines } = await resolver.resolve({ consoles, taken, primary, probeOrder });
    // Reasoning counts consoles; if one came or went meanwhile the count was wrong. An answer is an answer.
    const settled = fingerprint(await readConsoles(store)) === this.#fingerprint;
    this.#lines = lines;
    this.#findings = findings;
    for (const { deviceId, index, sure, how } of findings) {
      const view = consoles.find((candidate) => candidate.deviceId === deviceId);
      if (view?.name === undefined || !isSureEnough(sure, minimum) || !(settled || sure === 'proved')) continue;
      const line = keeper.keep(index);
      if (line === undefined) continue;
      this.#assigned.set(deviceId, { line, instance: view.instance, sure, how, claimed: false });
    }
  }

  /** The order in which the kernel made the devices: inode numbers of sysfs ascend (linux:fs/kernfs/dir.c). */
  async #probeOrder(): Promise<number[]> {
    const directory = join(this.#setup.root, 'sys/bus/xen/devices');
    const names = (await readdir(directory).catch((): string[] => [])).filter((name) => /^console-[0-9]+$/.test(name));
    const inodes = await Promise.all(names.map((name) => stat(join(directory, name)).catch(() => undefined)));
    const known = names.map((name, at) => ({ deviceId: Number(name.slice(8)), inode: inodes[at]?.ino ?? 0 }));
    return known.sort((a, b) => a.inode - b.inode).map(({ deviceId }) => deviceId);
  }

  #linkedNames(views: readonly ConsoleView[]): Set<string> {
    const linked = views.filter((view) => isCandidate(view) && this.#assigned.has(view.deviceId));
    return new Set(linked.flatMap(({ name }) => name ?? []));
  }

  /** Links, claims, record and the list, in this order: nobody hears of a link that does not stand yet. */
  async #publish(views: readonly ConsoleView[]): Promise<void> {
    const channels: ResolvedChannel[] = [];
    for (const view of views) if (view.shownName !== undefined) channels.push(await this.#publishOne(view));
    this.#logChanges(channels);
    this.#channels = channels;
    await this.#setup.record.save(
      views.flatMap(({ deviceId, name }) => {
        const assignment = this.#assigned.get(deviceId);
        if (assignment === undefined || name === undefined) return [];
        const { instance, line, sure } = assignment;
        return [{ deviceId, name, instance, index: line.index, sure }];
      }),
    );
  }

  async #publishOne(view: ConsoleView): Promise<ResolvedChannel> {
    const base = channelBase(view);
    const assignment = this.#assigned.get(view.deviceId);
    const refused = view.problem ?? notConnected(view);
    if (refused !== undefined || view.name === undefined || assignment === undefined) {
      if (view.claim === '1') await this.#claim(view.deviceId, '0');
      return { ...base, links: [], problem: refused ?? this.#whyNoLine(view) };
    }
    const { line, sure, how } = assignment;
    const { links, problems } = await this.#setup.links.set(view.name, line.index);
    const claim = links.length > 0 ? '1' : '0';
    if (view.claim !== claim && (claim === '1' || view.claim !== undefined)) {
      assignment.claimed = await this.#claim(view.deviceId, claim);
    } else if (view.claim !== undefined) assignment.claimed = true;
    const problem = { code: 'link-in-the-way', sentence: problems.join('; ') } as const;
    const channel = { ...base, tty: ttyPath(line.index), links, sure, how };
    return problems.length > 0 ? { ...channel, problem } : channel;
  }

  /** True if the claim stands. Inside a transaction: a console that has just gone must not come back as one key. */
  async #claim(deviceId: number, value: '0' | '1'): Promise<boolean> {
    try {
      return await this.#setup.store.transaction(async (tx) => {
        const claim = `${ownConsole(deviceId)}/${KEY.guestOpen}`;
        // A claim that has gone meanwhile was another console's: there is nothing to take back.
        if (!(await tx.exists(value === '0' ? claim : `${ownConsole(deviceId)}/state`))) return false;
        await tx.write(claim, value);
        return true;
      });
    } catch (error) {
      if (isXenstoreError(error, 'ENOENT', 'EACCES')) return false;
      throw error;
    }
  }

  #whyNoLine(view: ConsoleView): NonNullable<ResolvedChannel['problem']> {
    const id = view.deviceId;
    const finding = this.#findings.find(({ deviceId }) => deviceId === id);
    const line = this.#lines.find(({ index }) => index === finding?.index);
    if (finding !== undefined && !isSureEnough(finding.sure, this.#setup.minimum)) {
      const sentence = `console ${id} may be ${ttyPath(finding.index)} (${finding.how}), but that is only ${finding.sure}, and ${this.#setup.minimum} is asked for`;
      return { code: 'not-sure-enough', sentence };
    }
    const busy = line?.state === 'busy' ? line : this.#lines.find(({ state }) => state === 'busy');
    if (busy !== undefined) {
      const sentence = `console ${id} has no line of its own: ${busy.reason ?? `hvc${busy.index} is in use`}`;
      return { code: 'line-busy', sentence };
    }
    return { code: 'no-line', sentence: `no terminal line can be console ${id}` };
  }

  #logChanges(channels: readonly ResolvedChannel[]): void {
    for (const channel of channels) {
      const before = this.#channels.find(({ deviceId }) => deviceId === channel.deviceId);
      if (JSON.stringify(before) === JSON.stringify(channel)) continue;
      const { deviceId, name, tty, sure, how, problem } = channel;
      const level = problem === undefined || problem.code === 'not-connected' ? 'info' : 'warn';
      this.#setup.log.log(level, 'channel', { deviceId, name, tty, sure, how, problem: problem?.sentence });
    }
  }
}
