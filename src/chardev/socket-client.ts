/**
 * A chardev that connects to somebody else's listening Unix socket, and again whenever that goes away. The server there
 * is the one client of the channel. Knows nothing of rings.
 */
import { connect, type Socket } from 'node:net';
import type { Clock, Timer } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import { type Logger, silentLogger } from '../base/log.js';
import { BackOff } from './back-off.js';
import type { Chardev, ChardevEvents, CloseOptions } from './chardev.js';
import { Client } from './client.js';
import { InputBacklog } from './input-backlog.js';

export interface SocketClientOptions {
  readonly path: string;
  readonly clock: Clock;
  /** 0 to 1, as Math.random. */
  readonly random: () => number;
  readonly log?: Logger;
}

export const FIRST_RETRY_MS = 200;
export const LAST_RETRY_MS = 30_000;
/** A server that takes the connection and ends it sooner than this is no better than one that is not there. */
export const STABLE_MS = 10_000;
/** How soon it is missed that a server went away without a word while we were not reading from it. */
const PROBE_INTERVAL_MS = 1000;
/** sun_path has 108 bytes, one of them for the final NUL. */
const MAX_PATH_BYTES = 107;
const NOTHING = Buffer.alloc(0);

export class SocketClientChardev implements Chardev {
  readonly label: string;
  readonly viewed = false;
  readonly #options: SocketClientOptions;
  readonly #log: Logger;
  readonly #backOff: BackOff;
  readonly #input = new InputBacklog((bytes) => this.#events?.onInput(bytes));
  #events: ChardevEvents | undefined;
  #dialling: Socket | undefined;
  #server: Client | undefined;
  #connectedAtMs = 0;
  #retryTimer: Timer | undefined;
  #probeTimer: Timer | undefined;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #unwritten: Uint8Array = NOTHING;
  /** Called when the server takes bytes again or has gone: what an orderly close waits for. */
  #onProgress: (() => void) | undefined;
  #lastError = '';
  #figures = { bytesToClient: 0, bytesFromClient: 0, connects: 0, failedConnects: 0, salvageDroppedBytes: 0 };

  constructor(options: SocketClientOptions) {
    this.#options = options;
    this.#log = (options.log ?? silentLogger).with({ path: options.path });
    this.label = `connect:${options.path}`;
    this.#backOff = new BackOff({ firstMs: FIRST_RETRY_MS, lastMs: LAST_RETRY_MS, random: options.random });
  }

  get connected(): boolean {
    return this.#server !== undefined;
  }

  get unconfirmedBytes(): number {
    return this.#server?.unconfirmedBytes ?? 0;
  }

  /** Does not wait for the server: one that is not there yet is tried again. Throws ChannelError `path-too-long`. */
  async open(events: ChardevEvents): Promise<void> {
    const { path } = this.#options;
    const bytes = Buffer.byteLength(path);
    if (bytes > MAX_PATH_BYTES) {
      throw new ChannelError(
        'path-too-long',
        `socket path of ${bytes} bytes, the limit is ${MAX_PATH_BYTES}: ${path}`,
        {
          bytes,
          limit: MAX_PATH_BYTES,
        },
      );
    }
    this.#events = events;
    if (this.#state === 'open') this.#dial();
  }

  write(bytes: Uint8Array): number {
    const taken = this.#server?.write(bytes) ?? 0;
    this.#figures.bytesToClient += taken;
    return taken;
  }

  show(): void {}

  pauseInput(): void {
    this.#input.pause();
    this.#server?.pause();
    this.#armProbe();
  }

  resumeInput(): void {
    if (!this.#input.paused) return;
    this.#input.resume();
    queueMicrotask(() => {
      if (this.#state !== 'open') return;
      this.#input.deliver();
      if (this.#input.clear) this.#server?.resume();
    });
  }

  async close({ tail = NOTHING, lingerMs = 0 }: CloseOptions = {}): Promise<Uint8Array> {
    if (this.#state !== 'open') return NOTHING;
    this.#state = 'closing';
    this.#stopTimers();
    this.#dialling?.destroy();
    const written = tail.length === 0 ? 0 : await this.#writeTail(tail, lingerMs);
    this.#server?.close({ drain: true });
    this.#input.flush();
    this.#state = 'closed';
    return Buffer.concat([this.#unwritten, tail.subarray(written)]);
  }

  abandon(): void {
    this.#state = 'closed';
    this.#stopTimers();
    this.#dialling?.destroy();
    this.#server?.abandon();
    this.#server = undefined;
    this.#onProgress?.();
  }

  figures(): Readonly<Record<string, number | string | boolean>> {
    const { salvageDroppedBytes, ...figures } = this.#figures;
    return {
      connected: this.connected,
      ...figures,
      lastError: this.#lastError,
      inputBacklogBytes: this.#input.bytes,
      inputDroppedBytes: this.#input.droppedBytes + salvageDroppedBytes,
    };
  }

  #dial(): void {
    const socket = connect({ path: this.#options.path, allowHalfOpen: true });
    this.#dialling = socket;
    // Nothing is read before there is somebody to hand it to.
    socket.pause();
    const onError = (error: NodeJS.ErrnoException) => this.#refused(error.code ?? error.message);
    socket.once('error', onError);
    socket.once('connect', () => {
      socket.off('error', onError);
      this.#dialling = undefined;
      if (this.#state === 'open') this.#accepted(socket);
      else socket.destroy();
    });
  }

  #accepted(socket: Socket): void {
    this.#connectedAtMs = this.#options.clock.now();
    this.#figures.connects++;
    this.#lastError = '';
    this.#log.log('info', 'connected to the server');
    this.#server = new Client(socket, {
      onInput: (bytes) => this.#take(bytes),
      onEnd: () => this.#armProbe(),
      onWritable: () => {
        this.#onProgress?.();
        if (this.#state === 'open') this.#events?.onWritable();
      },
      onGone: (unread, unwritten) => this.#gone(unread, unwritten),
    });
    // What came over the connection before this one goes first.
    if (this.#input.clear) this.#server.resume();
    else this.#armProbe();
    this.#events?.onClient(true);
  }

  #refused(errno: string): void {
    this.#dialling = undefined;
    if (this.#state !== 'open') return;
    this.#figures.failedConnects++;
    // Once for each reason; the count says how often.
    if (errno !== this.#lastError) this.#log.log('warn', `the server cannot be reached: ${errno}`, { errno });
    this.#lastError = errno;
    this.#dialLater();
  }

  #gone(unread: Uint8Array[], unwritten: Uint8Array): void {
    this.#figures.salvageDroppedBytes += this.#server?.lostBytes ?? 0;
    this.#figures.bytesToClient -= unwritten.length;
    this.#server = undefined;
    this.#probeTimer?.cancel();
    this.#probeTimer = undefined;
    for (const bytes of unread) this.#take(bytes);
    this.#onProgress?.();
    if (this.#state !== 'open') {
      this.#unwritten = unwritten;
      this.#events?.onClient(false);
      return;
    }
    this.#log.log('info', 'the server has gone');
    if (unwritten.length > 0) this.#events?.onReturned(unwritten);
    this.#events?.onClient(false);
    if (this.#options.clock.now() - this.#connectedAtMs >= STABLE_MS) this.#backOff.reset();
    this.#dialLater();
  }

  #take(bytes: Uint8Array): void {
    this.#figures.bytesFromClient += bytes.length;
    this.#input.push(bytes);
  }

  #dialLater(): void {
    if (this.#state !== 'open') return;
    this.#retryTimer = this.#options.clock.after(this.#backOff.next(), () => this.#dial());
  }

  #stopTimers(): void {
    this.#retryTimer?.cancel();
    this.#probeTimer?.cancel();
  }

  /** Gives the server what it takes within the time; returns how much that was. */
  async #writeTail(tail: Uint8Array, lingerMs: number): Promise<number> {
    let expired = lingerMs === 0;
    const timer = expired
      ? undefined
      : this.#options.clock.after(lingerMs, () => {
          expired = true;
          this.#onProgress?.();
        });
    let written = 0;
    while (this.#server !== undefined) {
      written += this.write(tail.subarray(written));
      if (expired || (written === tail.length && !this.#server.blocked)) break;
      await new Promise<void>((settle) => {
        this.#onProgress = settle;
      });
    }
    this.#onProgress = undefined;
    timer?.cancel();
    return written;
  }

  /** While we do not read from the server, nothing tells us that it has gone: ask now and then. */
  #armProbe(): void {
    if (this.#probeTimer !== undefined || this.#state !== 'open') return;
    this.#probeTimer = this.#options.clock.after(PROBE_INTERVAL_MS, () => {
      this.#probeTimer = undefined;
      this.#server?.probe();
      if (this.#server !== undefined && (this.#server.ended || !this.#input.clear)) this.#armProbe();
    });
  }
}
