/**
 * A guest that breaks every rule it can: plays the frontend of one channel with the rights of its domain, and nothing
 * else. A test tool; attacks.ts says what it tries.
 */
import { linkSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.js';
import { indexDistance } from '../../src/console/indices.js';
import { frontendPath } from '../../src/console/layout.js';
import { OFFSET, OUT_BYTES, WORD } from '../../src/console/ring.js';
import { GuestPage } from '../../src/hypervisor/guest-page.js';
import type { SimulatedHypervisor } from '../../src/hypervisor/simulated.js';
import type { SimulatedDomain } from '../../src/simulation/simulated-domain.js';
import { isXenstoreError, type Store, XenstoreClient } from '../../xenstore/index.js';

export class HostileGuest {
  readonly domid: number;
  readonly store: Store;
  readonly storePath: string;
  readonly #hypervisor: SimulatedHypervisor;
  #frontend = '';
  #page = new GuestPage();
  #reference: number | undefined;
  #port: number | undefined;

  private constructor(domid: number, storePath: string, hypervisor: SimulatedHypervisor, store: Store) {
    this.domid = domid;
    this.storePath = storePath;
    this.#hypervisor = hypervisor;
    this.store = store;
  }

  /** Takes the domain over: its own kernel is off from now on. */
  static async seize(domain: SimulatedDomain, hypervisor: SimulatedHypervisor): Promise<HostileGuest> {
    // Its /dev goes with the kernel, and the way to xenstore with it.
    const storePath = join(domain.root, 'xenbus');
    linkSync(domain.storePath, storePath);
    await domain.kernel.powerOff();
    const store = await XenstoreClient.connect({ path: storePath, clock: systemClock, reconnect: false });
    return new HostileGuest(domain.domid, storePath, hypervisor, store);
  }

  /** Another connection of this domain. */
  connect(): Promise<Store> {
    return XenstoreClient.connect({ path: this.storePath, clock: systemClock, reconnect: false });
  }

  get frontend(): string {
    return this.#frontend;
  }

  get page(): GuestPage {
    return this.#page;
  }

  get reference(): number {
    return this.#reference ?? 0;
  }

  get port(): number {
    return this.#port ?? 0;
  }

  use(deviceId: number): void {
    this.#frontend = frontendPath(this.domid, deviceId);
  }

  /** A fresh ring, as a correct frontend makes it. `memory`: instead of memory of this thread alone. */
  async offer(memory?: SharedArrayBuffer): Promise<void> {
    this.#page = new GuestPage();
    if (memory !== undefined) this.#page.moveTo(memory as unknown as ArrayBuffer);
    this.#port = this.#hypervisor.allocUnbound(this.domid, 0);
    this.#reference = this.#hypervisor.grant(this.domid, 0, this.#page);
    await this.put('ring-ref', String(this.#reference));
    await this.put('port', String(this.#port));
    await this.put('state', '3');
  }

  /** Takes everything back, mapped or not. */
  withdraw(): void {
    if (this.#port !== undefined) this.#hypervisor.closePort(this.domid, this.#port);
    if (this.#reference !== undefined) this.#hypervisor.revoke(this.domid, this.#reference);
    this.#port = undefined;
    this.#reference = undefined;
  }

  closePort(): void {
    this.#hypervisor.closePort(this.domid, this.port);
    this.#port = undefined;
  }

  revoke(): boolean {
    const freed = this.#hypervisor.revoke(this.domid, this.reference);
    this.#reference = undefined;
    return freed;
  }

  ring(): void {
    if (this.#port !== undefined) this.#hypervisor.notify(this.domid, this.#port);
  }

  /** Writes a key of the frontend; what xenstored answers, `OK` where it let us. */
  async put(key: string, value: string): Promise<string> {
    return this.attempt(() => this.store.write(`${this.#frontend}/${key}`, value));
  }

  async attempt(request: () => Promise<unknown>): Promise<string> {
    try {
      await request();
      return 'OK';
    } catch (error) {
      if (isXenstoreError(error)) return error.code;
      throw error;
    }
  }

  setWord(word: keyof typeof WORD, value: number): void {
    Atomics.store(this.#page.words, WORD[word], value | 0);
  }

  word(word: keyof typeof WORD): number {
    return Atomics.load(this.#page.words, WORD[word]) >>> 0;
  }

  /** What a correct guest does: as many of `bytes` as there is room for. */
  write(bytes: Uint8Array): number {
    const produced = this.word('outProd');
    const count = Math.min(bytes.length, OUT_BYTES - indexDistance(produced, this.word('outCons')));
    for (let at = 0; at < count; at++) {
      this.#page.bytes[OFFSET.out + ((produced + at) & (OUT_BYTES - 1))] = bytes[at] ?? 0;
    }
    if (count > 0) this.setWord('outProd', produced + count);
    this.ring();
    return Math.max(0, count);
  }
}
