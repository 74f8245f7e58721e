/**
 * The host end of a channel as a session sees it: a place where the guest's bytes go and the client's bytes come from.
 * Implementations: socket.ts, socket-client.ts, pty.ts, log-file.ts, null.ts. Knows nothing of rings or xenstore.
 */

/** What a chardev tells its session. Calls arrive one at a time, never from inside a call of the session. */
export interface ChardevEvents {
  /** The writing client came (true) or went (false). Viewers do not count. */
  onClient(connected: boolean): void;
  /**
   * Bytes of the writing client; the session takes all of them and answers with pauseInput when it has enough. Valid
   * only during the call: who keeps them, copies them.
   */
  onInput(bytes: Uint8Array): void;
  /** After `write` said it took less than all: there is room again. */
  onWritable(): void;
  /**
   * Bytes that `write` had taken, but the client went away before it got them. They come before everything that was not
   * yet offered.
   */
  onReturned(bytes: Uint8Array): void;
  /** The chardev cannot go on (its listening socket broke). The session goes on draining the guest into its spool. */
  onFailure(error: Error): void;
}

export interface CloseOptions {
  /** Bytes of the guest that the connected client should still get; what it does not take comes back. */
  readonly tail?: Uint8Array;
  /** How long a slow client is waited for. Default 0: what does not go out at once comes back. */
  readonly lingerMs?: number;
}

export interface Chardev {
  /** What stands in status and logs: `socket:/run/xenchannel/dom5/agent`. */
  readonly label: string;
  /** True while a writing client is connected. */
  readonly connected: boolean;
  /** True while somebody only looks on: then `show` is worth a call. */
  readonly viewed: boolean;
  /** `/dev/pts/N` while a PTY is served: what belongs into the frontend's `tty` key. */
  readonly tty?: string | undefined;
  /**
   * Of the bytes that `write` took, those that only this process has: the kernel, and so the client, would not get them
   * if it died now. Absent: none. When they become fewer, onWritable is called.
   */
  readonly unconfirmedBytes?: number;
  /** Starts to serve. Throws ChannelError `path-in-use`, `path-not-a-socket`, `path-too-long`, `permission-denied`. */
  open(events: ChardevEvents): Promise<void>;
  /**
   * Offers bytes of the guest to the writing client; returns how many were taken (0 when there is none or it is too
   * slow). The bytes are copied or given to the kernel before the call returns: the caller may reuse its buffer.
   */
  write(bytes: Uint8Array): number;
  /** Fresh bytes of the guest for those who only look on. Never blocks, never fails: who is too slow misses some. */
  show(bytes: Uint8Array): void;
  /** Back-pressure toward the client: no onInput after pauseInput returns until resumeInput. */
  pauseInput(): void;
  resumeInput(): void;
  /**
   * No new clients from now on, but those to whom the kernel has said already that they are connected: they may have
   * written, and are served when this resolves. Call `close` afterwards. Absent where nobody waits to be accepted.
   */
  stopAccepting?(): Promise<void>;
  /**
   * Orderly end. Removes its own socket file and only that, takes no more clients, hands over by onInput all that the
   * client was told to be accepted (paused or not), writes `tail`, and disconnects everybody. Returns the bytes taken by
   * `write` or given as `tail` that the client did not get, in order.
   */
  close(options?: CloseOptions): Promise<Uint8Array>;
  /**
   * Sends the writing client away; what it has sent by then still counts. False: there is none. Absent where clients
   * cannot be told apart.
   */
  releaseWriter?(): boolean;
  /** What a crash does: descriptors are closed, nothing is flushed, nothing is removed. For the simulation of crashes. */
  abandon(): void;
  /** Live figures for status: clients connected, bytes in and out, refused clients, ... */
  figures(): Readonly<Record<string, number | string | boolean>>;
}
