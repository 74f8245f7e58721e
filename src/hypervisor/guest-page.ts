/**
 * A page of simulated guest memory. Knows nothing of grants: hypervisor/simulated.ts lends it.
 */

export const PAGE_BYTES = 4096;

export class GuestPage {
  #bytes = new Uint8Array(PAGE_BYTES);
  #words = new Int32Array(this.#bytes.buffer);
  #shared = false;

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
    if (this.#shared) return;
    const buffer = this.#bytes.buffer as ArrayBuffer;
    const moved = structuredClone(buffer, { transfer: [buffer] });
    this.#bytes = new Uint8Array(moved);
    this.#words = new Int32Array(moved);
  }

  /** Moves the contents into memory that another process maps, too: from there they cannot be moved any more. */
  moveTo(memory: ArrayBuffer): void {
    new Uint8Array(memory).set(this.#bytes);
    this.#bytes = new Uint8Array(memory);
    this.#words = new Int32Array(memory);
    this.#shared = true;
  }
}
