/** How a request of oxenstored ends otherwise than with an answer. Made once each: refusals are frequent and need no stack. */
import type { DaemonError } from '../likeness.js';

export class Refusal extends Error {
  readonly error: DaemonError;

  constructor(error: DaemonError) {
    super(error);
    this.error = error;
  }
}

const KNOWN = new Map<DaemonError, Refusal>();

export function refusal(error: DaemonError): Refusal {
  let known = KNOWN.get(error);
  if (known === undefined) {
    known = new Refusal(error);
    KNOWN.set(error, known);
  }
  return known;
}
