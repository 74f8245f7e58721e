/**
 * What the guest can read about the host's end in its own frontend: whether a client is there, and which terminal serves
 * it. Remembers what was written, so that nothing is written twice.
 */
import type { Chardev } from '../chardev/chardev.js';
import type { ChannelNodes } from './channel-nodes.js';

export class GuestNews {
  readonly #nodes: ChannelNodes;
  readonly #chardev: Pick<Chardev, 'connected' | 'tty'>;
  /** undefined: nothing yet, or its frontend is another one. */
  #hostOpen: boolean | undefined;
  #tty: string | undefined;

  constructor(nodes: ChannelNodes, chardev: Pick<Chardev, 'connected' | 'tty'>) {
    this.#nodes = nodes;
    this.#chardev = chardev;
  }

  /** The frontend is gone; the next one knows nothing. */
  forget(): void {
    this.#hostOpen = undefined;
    this.#tty = undefined;
  }

  async tellHostOpen(): Promise<void> {
    const open = this.#chardev.connected;
    if (this.#hostOpen === open) return;
    this.#hostOpen = open;
    await this.#nodes.writeHostOpen(open);
  }

  /** As xenconsoled and QEMU do it: `/dev/pts/N` while there is one, empty when it has gone. */
  async tellTty(): Promise<void> {
    const tty = this.#chardev.tty ?? '';
    if (this.#tty === tty || (this.#tty === undefined && tty === '')) return;
    this.#tty = tty;
    if (!(await this.#nodes.writeTty(tty))) this.#tty = undefined;
  }
}
