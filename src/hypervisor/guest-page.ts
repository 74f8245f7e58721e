/**
 * A page of simulated guest memory. Knows nothing of grants: hypervisor/simulated.ts lends it.
 */

export const PAGE_BYTES = 4096;

export class GuestPage {
  #bytes = new Uint8Array(PAGE_BYTES);
  #words = new Int32Array(this.#bytes.buffer);

  /** The guest's own views; ask for them at each use, `relocate` replaces them. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get words(): Int32Array {
    return this.#words;
  }

  /**
   * Moves the contents into fresh memory and detaches every view handed out before. A backend that touches the page
   * after it unmapped gets an exception here, where a genuine one is killed by SIGSEGV.
   */
  relocate(): void {
    const buffer = this.#bytes.buffer as ArrayBuffer;
    const moved = structuredClone(buffer, { transfer: [buffer] });
    this.#bytes = new Uint8Array(moved);
    this.#words = new Int32Array(moved);
  }
}
