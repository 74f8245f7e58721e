/**
 * How long to wait before the next attempt: longer each time, up to a bound, and never the same for all who wait. Knows
 * nothing of what is attempted.
 */
export interface BackOffOptions {
  readonly firstMs: number;
  readonly lastMs: number;
  /** 0 to 1, as Math.random. */
  readonly random: () => number;
}

export class BackOff {
  readonly #options: BackOffOptions;
  #nextMs: number;

  constructor(options: BackOffOptions) {
    this.#options = options;
    this.#nextMs = options.firstMs;
  }

  /** Between half and the whole of a bound that doubles each time. */
  next(): number {
    const boundMs = this.#nextMs;
    this.#nextMs = Math.min(2 * boundMs, this.#options.lastMs);
    return Math.round(boundMs * (0.5 + this.#options.random() / 2));
  }

  reset(): void {
    this.#nextMs = this.#options.firstMs;
  }
}
