/**
 * What is wrong with a channel at present, and how often the guest wrote nonsense: each is logged when it begins or
 * changes, and only counted while it lasts, so that no guest can fill a log.
 */
import { ChannelError, type ErrorCode } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { printable } from '../console/name.js';

/** `ring`: it cannot be mapped or bound. `chardev`: nobody can connect. `store`: xenstore does not do what we ask. */
export type ProblemArea = 'ring' | 'chardev' | 'store';

export interface Problem {
  readonly code: string;
  readonly message: string;
}

const MAX_MESSAGE_CHARACTERS = 300;

export class Problems {
  readonly #log: Logger;
  readonly #onChange: () => void;
  readonly #current = new Map<ProblemArea, Problem>();
  readonly #guestTold = new Map<string, string | undefined>();
  #malformed = 0;

  /** `onChange`: there is another problem, or one less. */
  constructor(log: Logger, onChange: () => void = () => {}) {
    this.#log = log;
    this.#onChange = onChange;
  }

  /** How often the guest wrote what no correct guest writes. */
  get malformed(): number {
    return this.#malformed;
  }

  current(): readonly Problem[] {
    return [...this.#current.values()];
  }

  report(area: ProblemArea, error: unknown): void {
    const problem = describe(error);
    const before = this.#current.get(area);
    this.#current.set(area, problem);
    if (before?.code === problem.code && before.message === problem.message) return;
    this.#log.log('warn', problem.message, { code: problem.code });
    this.#onChange();
  }

  solved(area: ProblemArea): void {
    const before = this.#current.get(area);
    if (before === undefined) return;
    this.#current.delete(area);
    this.#log.log('info', 'problem solved', { code: before.code });
    this.#onChange();
  }

  /**
   * Nonsense of the guest: told once for each kind, and counted each time that it is another. `value` tells them apart.
   */
  guest(code: ErrorCode, message: string, value?: string): void {
    const told = this.#guestTold.has(message);
    if (told && value !== undefined && this.#guestTold.get(message) === value) return;
    this.#guestTold.set(message, value);
    this.#malformed++;
    if (!told) this.#log.log('warn', message, { code });
  }
}

function describe(error: unknown): Problem {
  const code = error instanceof ChannelError ? error.code : 'internal-bug';
  const message = error instanceof Error ? error.message : printable(String(error));
  return { code, message: message.slice(0, MAX_MESSAGE_CHARACTERS) };
}
