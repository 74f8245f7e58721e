/**
 * Keys that somebody should look at: each is handled by one at a time, several side by side, and again when it was added
 * while it was handled. A burst of additions, as a transaction causes with each of its nodes, makes one handling. Knows
 * nothing of what the keys mean.
 */

export interface DirtySetOptions {
  readonly parallel: number;
  readonly handle: (key: string) => Promise<void>;
  readonly onFailure: (key: string, error: unknown) => void;
}

export class DirtySet {
  readonly #options: DirtySetOptions;
  readonly #waiting = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  #burst: Promise<void> | undefined;
  #stopped = false;

  constructor(options: DirtySetOptions) {
    this.#options = options;
  }

  add(key: string): void {
    if (this.#stopped) return;
    this.#waiting.add(key);
    // Watch events of one message from the store are delivered one after the other, without a turn of promises between.
    this.#burst ??= Promise.resolve().then(() => {
      this.#burst = undefined;
      this.#fill();
    });
  }

  /** Resolves when nothing is handled and nothing waits. */
  async settled(): Promise<void> {
    while (this.#burst !== undefined || this.#running.size > 0) {
      await (this.#burst ?? Promise.race(this.#running.values()));
    }
  }

  /** What waits is dropped; what is handled goes on. */
  stop(): void {
    this.#stopped = true;
    this.#waiting.clear();
  }

  #fill(): void {
    for (const key of this.#waiting) {
      if (this.#running.size >= this.#options.parallel) return;
      if (this.#running.has(key)) continue;
      this.#waiting.delete(key);
      this.#running.set(key, this.#handle(key));
    }
  }

  async #handle(key: string): Promise<void> {
    try {
      await this.#options.handle(key);
    } catch (error) {
      this.#options.onFailure(key, error);
    }
    // After at least one turn of promises, so that `#running` has the key by now.
    await undefined;
    this.#running.delete(key);
    this.#fill();
  }
}
