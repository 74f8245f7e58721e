/**
 * The guest's bytes for those beside the host end: fresh ones as they come, earlier ones as far as they are kept. Takes
 * nothing away from the client and cannot hold anybody up. Knows no sockets.
 */
import { History, type HistoryPiece, type KeptRanges } from '../chardev/history.js';

export interface Follower {
  /** The bytes are only valid during the call. */
  onBytes(bytes: Uint8Array): void;
  /** The channel is over. */
  onEnd(): void;
}

/** What each channel that talks costs at most, besides its spool: the first words and about a screenful of pages. */
export const HISTORY_FIRST_BYTES = 16 * 1024;
export const HISTORY_RECENT_BYTES = 128 * 1024;

export class OutputFeed {
  readonly #followers = new Set<Follower>();
  readonly #offset: () => number;
  #history: History | undefined;

  /** `offset`: how many bytes the guest has sent so far, pushed ones included. */
  constructor(offset: () => number) {
    this.#offset = offset;
  }

  /** Of the next byte, counted from the beginning of the channel's output. */
  get offset(): number {
    return this.#offset();
  }

  get kept(): KeptRanges {
    return this.#keep(this.offset).kept;
  }

  /** Throws ChannelError `range-gone` for an offset that is not kept or not reached. Empty at the end of the output. */
  read(sinceOffset: number): HistoryPiece {
    return this.#keep(this.offset).read(sinceOffset, HISTORY_FIRST_BYTES + HISTORY_RECENT_BYTES);
  }

  push(bytes: Uint8Array): void {
    this.#keep(this.offset - bytes.length).append(bytes);
    if (this.#followers.size === 0) return;
    for (const follower of this.#followers) follower.onBytes(bytes);
  }

  /** Returns what ends it. */
  follow(follower: Follower): () => void {
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }

  close(): void {
    for (const follower of [...this.#followers]) follower.onEnd();
    this.#followers.clear();
  }

  /** What went by before this daemon is only known when the first byte comes: until then the history may begin anew. */
  #keep(total: number): History {
    if (this.#history?.total !== total) {
      this.#history = new History({
        firstBytes: HISTORY_FIRST_BYTES,
        recentBytes: HISTORY_RECENT_BYTES,
        startOffset: total,
      });
    }
    return this.#history;
  }
}
