/**
 * The host end of a channel as a session sees it: a place where the guest's bytes go and the client's bytes come from.
 * Implementations: socket.ts (and later pty, log file). Knows nothing of rings or xenstore.
 */

/** What a chardev tells its session. Calls arrive one at a time, never from inside a call of the session. */
export interface ChardevEvents {
  /** The first client came (true) or the last one went (false). */
  onClient(connected: boolean): void;
  /** Bytes of the writing client. The session takes all of them; it answers with pauseInput when it has enough. */
  onInput(bytes: Uint8Array): void;
  /** After `write` said it took less than all: there is room again. */
  onWritable(): void;
  /** The chardev cannot go on (its listening socket broke). The session goes on draining the guest into its spool. */
  onFailure(error: Error): void;
}

export interface Chardev {
  /** What stands in status and logs: `socket:/run/xenchannel/dom5/agent`. */
  readonly label: string;
  /** True while somebody is connected who receives bytes. */
  readonly connected: boolean;
  /** Starts to serve. Throws ChannelError `path-in-use`, `path-not-a-socket`, `path-too-long`, `permission-denied`. */
  open(events: ChardevEvents): Promise<void>;
  /**
   * Offers bytes of the guest; returns how many were taken (0 when no client is connected or it is too slow). The
   * bytes are copied or given to the kernel before the call returns: the caller may reuse its buffer.
   */
  write(bytes: Uint8Array): number;
  /** Back-pressure toward the client: no onInput after pauseInput returns until resumeInput. */
  pauseInput(): void;
  resumeInput(): void;
  /**
   * Orderly end. Takes no more clients, hands over by onInput all that the client was told to be accepted (paused or
   * not), writes out what it holds for clients as far as they take it within the chardev's bound, and removes its own
   * socket file, and only that. Returns the bytes that could not be written out, for the handover.
   */
  close(options?: { readonly keepPath?: boolean }): Promise<Uint8Array>;
  /** What a crash does: descriptors are closed, nothing is flushed, nothing is removed. For the simulation of crashes. */
  abandon(): void;
  /** Live figures for status: clients connected, bytes in and out, refused clients, ... */
  figures(): Readonly<Record<string, number | string | boolean>>;
}
