/**
 * How long it pays to wait for a guest in full flow, instead of ringing it and being rung: so many looks at its ring as
 * cost about as much as an event. Measured now and then while the daemon works, because nothing else tells: on hardware
 * it is some hundred looks, under emulation thousands. One for all channels. Knows neither rings nor guests.
 */

/** The least: some microseconds on hardware. */
export const LEAST_LOOKS = 200;
/** The most: a tenth of a millisecond on hardware, where it is never reached. */
export const MOST_LOOKS = 8000;
/**
 * What an event costs, in bells: that of the guest, its own, the way through the event loop, two or three more system
 * calls.
 */
const BELLS = 8;
/** The clock is asked once in so many times: where it is not mapped into the process, that is a system call. */
const SAMPLE_EVERY = 64;
/** The least of so many measurements counts: what is above it was somebody else's time. */
const SAMPLES = 16;

export class BellCost {
  readonly bells: Meter;
  readonly looks: Meter;
  #worthLooks = LEAST_LOOKS;

  /** `now` in milliseconds, with fractions. */
  constructor(now: () => number = () => performance.now()) {
    const update = (): void => this.#update();
    this.bells = new Meter(now, update);
    this.looks = new Meter(now, update);
  }

  /** So many looks cost about as much as an event. */
  get worthLooks(): number {
    return this.#worthLooks;
  }

  #update(): void {
    const looks = Math.round((BELLS * this.bells.leastMs) / this.looks.leastMs);
    // Not while either is unknown (NaN), or too short for the clock.
    this.#worthLooks = looks > LEAST_LOOKS && Number.isFinite(looks) ? Math.min(looks, MOST_LOOKS) : LEAST_LOOKS;
  }
}

/** Of something that is done all the time, how long it lately took at least. */
export class Meter {
  readonly #now: () => number;
  readonly #onChange: () => void;
  readonly #times: number[] = [];
  #count = 0;
  leastMs = Number.NaN;

  constructor(now: () => number, onChange: () => void) {
    this.#now = now;
    this.#onChange = onChange;
  }

  /**
   * Before it: undefined when this time is not measured, and `end` is not to be called. `rare`: it takes so long or is done
   * so seldom that it is measured each time.
   */
  start(rare = false): number | undefined {
    return rare || this.#count++ % SAMPLE_EVERY === 0 ? this.#now() : undefined;
  }

  /** After it was done `times` times. */
  end(startMs: number, times = 1): void {
    this.#times.push((this.#now() - startMs) / times);
    if (this.#times.length > SAMPLES) this.#times.shift();
    this.leastMs = Math.min(...this.#times);
    this.#onChange();
  }
}
