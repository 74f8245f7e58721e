/**
 * Finds the line of every console that has none yet: asks the backends first, reasons about the rest. Holds nothing
 * between calls but the questions whose answers may still come.
 */
import type { Logger } from '../base/log.js';
import { type Certainty, deduce, type Finding, isSureEnough } from './deduce.js';
import type { ConsoleView } from './frontend.js';
import type { Keeper } from './keeper.js';
import type { LineView } from './lines.js';
import { type Expected, type ProveOptions, prove } from './prove.js';

/** A daemon that is being restarted may miss the first question. */
export const PROVE_TRIES = 2;

export interface ResolveTask {
  /** Consoles without a line, those without a usable name among them: they take lines, too. */
  readonly consoles: readonly ConsoleView[];
  /** Lines that belong to other consoles. */
  readonly taken: ReadonlySet<number>;
  readonly primary: boolean;
  readonly probeOrder: readonly number[];
}

export interface Resolution {
  readonly findings: readonly Finding[];
  readonly lines: readonly LineView[];
}

export class Resolver {
  readonly #keeper: Keeper;
  readonly #options: ProveOptions;
  readonly #log: Logger;
  readonly #expected: Expected = new Map();

  constructor(keeper: Keeper, options: ProveOptions) {
    this.#keeper = keeper;
    this.#options = options;
    this.#log = options.log;
  }

  async resolve(task: ResolveTask): Promise<Resolution> {
    const lines = await this.#keeper.takeFree(task.primary);
    const proved = await this.#prove(task.consoles);
    const left = task.consoles.filter(({ deviceId }) => !proved.some((finding) => finding.deviceId === deviceId));
    const used = new Set([...task.taken, ...proved.map(({ index }) => index)]);
    const live = lines.filter(({ state, index }) => (state === 'free' || state === 'busy') && !used.has(index));
    const deduced = deduce({
      consoles: left,
      lines: live.map(({ index }) => index),
      probeOrder: task.probeOrder,
    });
    return { findings: [...proved, ...deduced], lines };
  }

  async #prove(consoles: readonly ConsoleView[]): Promise<Finding[]> {
    const connected = consoles.filter(({ state }) => state === 'connected');
    let asked = connected.filter((view) => !view.mute && view.name !== undefined).map(({ deviceId }) => deviceId);
    const proved: Finding[] = [];
    for (let attempt = 0; attempt < PROVE_TRIES && asked.length > 0 && !this.#options.signal.aborted; attempt++) {
      const spares = this.#keeper.spares.filter(({ index }) => !proved.some((finding) => finding.index === index));
      const quiet = spares.filter((line) => (line.waiting() ?? 0) === 0);
      // Bytes wait on a line that can only be one of those we would ask about: the answer would land behind them and
      // stay there for the application to read. Reasoning alone must do.
      if (spares.length - quiet.length > connected.filter(({ mute }) => mute).length) {
        this.#log.log('warn', 'a line has bytes for its application; no questions asked', { lines: spares.length });
        break;
      }
      if (quiet.length === 0) break;
      const found = await prove(asked, quiet, this.#expected, this.#options);
      for (const [deviceId, { index }] of found) proved.push({ deviceId, index, sure: 'proved', how: 'answer' });
      asked = asked.filter((deviceId) => !found.has(deviceId));
    }
    for (const [answer, deviceId] of this.#expected) {
      if (!asked.includes(deviceId)) this.#expected.delete(answer);
    }
    return proved;
  }
}

/** The findings good enough to act on. */
export function actable(findings: readonly Finding[], minimum: Certainty): Finding[] {
  return findings.filter(({ sure }) => isSureEnough(sure, minimum));
}
