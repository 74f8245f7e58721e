/**
 * Another chardev with a log beside it: everything that the guest says is also written to a file, whether a client is
 * there or not. The log never holds up the channel: what its disk does not take is dropped there and counted.
 */
import type { Chardev, ChardevEvents, CloseOptions } from './chardev.js';
import type { LogFile } from './log-file.js';

export class TeeChardev implements Chardev {
  /** The log looks on. */
  readonly viewed = true;
  readonly #inner: Chardev;
  readonly #log: LogFile;

  constructor(inner: Chardev, log: LogFile) {
    this.#inner = inner;
    this.#log = log;
  }

  get label(): string {
    return this.#inner.label;
  }

  get connected(): boolean {
    return this.#inner.connected;
  }

  get unconfirmedBytes(): number {
    return this.#inner.unconfirmedBytes ?? 0;
  }

  get tty(): string | undefined {
    return this.#inner.tty;
  }

  /** A log that cannot be opened is tried again; only the other one can fail. */
  async open(events: ChardevEvents): Promise<void> {
    this.#log.start(() => {});
    await this.#inner.open(events);
  }

  write(bytes: Uint8Array): number {
    return this.#inner.write(bytes);
  }

  show(bytes: Uint8Array): void {
    this.#log.append(bytes);
    if (this.#inner.viewed) this.#inner.show(bytes);
  }

  pauseInput(): void {
    this.#inner.pauseInput();
  }

  resumeInput(): void {
    this.#inner.resumeInput();
  }

  /** False also where the other one cannot tell its clients apart. */
  releaseWriter(): boolean {
    const inner: Chardev & { releaseWriter?(): boolean } = this.#inner;
    return inner.releaseWriter?.() ?? false;
  }

  async stopAccepting(): Promise<void> {
    const inner: Chardev & { stopAccepting?(): Promise<void> } = this.#inner;
    await inner.stopAccepting?.();
  }

  async close(options?: CloseOptions): Promise<Uint8Array> {
    const [unwritten] = await Promise.all([this.#inner.close(options), this.#log.close()]);
    return unwritten;
  }

  abandon(): void {
    this.#inner.abandon();
    this.#log.abandon();
  }

  figures(): Readonly<Record<string, number | string | boolean>> {
    return { ...this.#log.figures(), ...this.#inner.figures() };
  }
}
