/**
 * A chardev behind a listening Unix socket: one client writes and reads, others may look on, none can hold up the
 * guest. Knows nothing of rings.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock, Timer } from '../base/clock.js';
import { type Logger, silentLogger } from '../base/log.js';
import { shutdownRead } from '../sys/shutdown.js';
import { type BindOptions, type BoundPath, listenAt } from './bind.js';
import type { Chardev, ChardevEvents, CloseOptions } from './chardev.js';
import { Client, descriptorOf } from './client.js';
import { InputBacklog } from './input-backlog.js';
import { MAX_VIEWERS, Viewers } from './viewers.js';

export interface SocketChardevOptions extends BindOptions {
  readonly clock: Clock;
  readonly log?: Logger;
}

/** Connections the kernel keeps for us while we are busy. */
const LISTEN_BACKLOG = 16;
/** The event loop takes one connection in each of its turns; after two in which none came, none was waiting. */
const IDLE_TURNS = 2;
const MAX_ACCEPT_TURNS = 4 * LISTEN_BACKLOG;
/** How soon a client is missed that went away without a word while we were not reading from it. */
const PROBE_INTERVAL_MS = 1000;
const NOTHING = Buffer.alloc(0);

export class SocketChardev implements Chardev {
  readonly label: string;
  readonly #options: SocketChardevOptions;
  readonly #log: Logger;
  readonly #server: Server;
  readonly #viewers: Viewers;
  #events: ChardevEvents | undefined;
  #bound: BoundPath | undefined;
  #writer: Client | undefined;
  #state: 'open' | 'closing' | 'abandoned' = 'open';
  readonly #input = new InputBacklog((bytes) => this.#events?.onInput(bytes));
  #unwritten: Uint8Array = NOTHING;
  #probeTimer: Timer | undefined;
  /** Connections that the kernel has handed over, of whatever role. */
  #accepted = 0;
  /** Called when the writer takes bytes again or has gone: what an orderly close waits for. */
  #onProgress: (() => void) | undefined;
  #figures = {
    bytesToClient: 0,
    bytesFromClient: 0,
    bytesFromWriter: 0,
    clients: 0,
    refusedClients: 0,
    salvageDroppedBytes: 0,
  };

  constructor(options: SocketChardevOptions) {
    this.#options = options;
    this.#log = (options.log ?? silentLogger).with({ path: options.path });
    this.label = `socket:${options.path}`;
    this.#viewers = new Viewers(this.#log);
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => this.#accept(socket));
  }

  get connected(): boolean {
    return this.#writer !== undefined;
  }

  get unconfirmedBytes(): number {
    return this.#writer?.unconfirmedBytes ?? 0;
  }

  get viewed(): boolean {
    return this.#viewers.count > 0;
  }

  async open(events: ChardevEvents): Promise<void> {
    this.#events = events;
    const bound = await listenAt(this.#server, { backlog: LISTEN_BACKLOG, ...this.#options });
    if (this.#state === 'closing') bound.remove();
    if (this.#state !== 'open') {
      this.#server.close();
      return;
    }
    this.#bound = bound;
    this.#server.on('error', (error) => events.onFailure(error));
  }

  write(bytes: Uint8Array): number {
    if (this.#writer === undefined) return 0;
    const taken = this.#writer.write(bytes);
    this.#figures.bytesToClient += taken;
    return taken;
  }

  show(bytes: Uint8Array): void {
    this.#viewers.show(bytes);
  }

  pauseInput(): void {
    this.#input.pause();
    this.#writer?.pause();
    this.#armProbe();
  }

  resumeInput(): void {
    if (!this.#input.paused) return;
    this.#input.resume();
    queueMicrotask(() => this.#deliver());
  }

  async stopAccepting(): Promise<void> {
    if (this.#bound === undefined) return;
    this.#unbind();
    // From here on connect(2) is refused, and what waits in the kernel's queue can only become less.
    shutdownRead(descriptorOf(this.#server));
    for (let turn = 0, idle = 0; turn < MAX_ACCEPT_TURNS && idle < IDLE_TURNS; turn++) {
      const before = this.#accepted;
      await new Promise((settle) => setImmediate(settle));
      idle = this.#accepted === before ? idle + 1 : 0;
    }
  }

  async close({ tail = NOTHING, lingerMs = 0 }: CloseOptions = {}): Promise<Uint8Array> {
    if (this.#state !== 'open') return NOTHING;
    this.#state = 'closing';
    this.#unbind();
    const closed = new Promise<void>((settle) => this.#server.close(() => settle()));
    const rest = tail.length === 0 ? tail : tail.subarray(await this.#writeTail(tail, lingerMs));
    this.#writer?.close({ drain: true });
    this.#viewers.close();
    this.#probeTimer?.cancel();
    this.#input.flush();
    await closed;
    return Buffer.concat([this.#unwritten, rest]);
  }

  releaseWriter(): boolean {
    const writer = this.#writer;
    writer?.close({ drain: true });
    return writer !== undefined;
  }

  abandon(): void {
    this.#state = 'abandoned';
    this.#server.close();
    this.#writer?.abandon();
    this.#viewers.abandon();
    this.#probeTimer?.cancel();
    this.#onProgress?.();
  }

  figures(): Readonly<Record<string, number | string | boolean>> {
    const { salvageDroppedBytes, ...figures } = this.#figures;
    return {
      connected: this.connected,
      ...figures,
      inputDroppedBytes: this.#input.droppedBytes + salvageDroppedBytes,
      inputBacklogBytes: this.#input.bytes,
      ...this.#viewers.figures(),
    };
  }

  /** Only once: whoever listens next may be given the same inode. */
  #unbind(): void {
    this.#bound?.remove();
    this.#bound = undefined;
  }

  #accept(socket: Socket): void {
    this.#accepted++;
    if (this.#state !== 'open') {
      socket.destroy();
      return;
    }
    // A writer that has left silently makes room first.
    this.#writer?.probe();
    queueMicrotask(() => this.#assignRole(socket));
  }

  #assignRole(socket: Socket): void {
    if (this.#state !== 'open') socket.destroy();
    else if (this.#writer === undefined) this.#admitWriter(socket);
    else if (this.#viewers.count < MAX_VIEWERS) this.#viewers.admit(socket, () => this.#armProbe());
    else {
      this.#figures.refusedClients++;
      this.#log.log('warn', `client refused: one writes and ${MAX_VIEWERS} look on already`);
      socket.destroy();
    }
  }

  #admitWriter(socket: Socket): void {
    this.#figures.clients++;
    this.#figures.bytesFromWriter = 0;
    const client = new Client(socket, {
      onInput: (bytes) => this.#take(bytes),
      onEnd: () => this.#armProbe(),
      onWritable: () => {
        this.#onProgress?.();
        if (this.#state === 'open') this.#events?.onWritable();
      },
      onGone: (unread, unwritten) => this.#writerGone(client, unread, unwritten),
    });
    this.#writer = client;
    // What its predecessor left behind goes first.
    if (this.#input.clear) client.resume();
    this.#events?.onClient(true);
  }

  #writerGone(client: Client, unread: Uint8Array[], unwritten: Uint8Array): void {
    this.#writer = undefined;
    this.#figures.salvageDroppedBytes += client.lostBytes;
    this.#figures.bytesToClient -= unwritten.length;
    for (const bytes of unread) this.#take(bytes);
    this.#onProgress?.();
    if (this.#state === 'open') {
      if (unwritten.length > 0) this.#events?.onReturned(unwritten);
    } else this.#unwritten = unwritten;
    this.#events?.onClient(false);
  }

  #take(bytes: Uint8Array): void {
    this.#figures.bytesFromClient += bytes.length;
    this.#figures.bytesFromWriter += bytes.length;
    this.#input.push(bytes);
  }

  #deliver(): void {
    if (this.#state === 'abandoned') return;
    if (this.#state === 'closing') this.#input.flush();
    else this.#input.deliver();
    if (this.#input.clear) this.#writer?.resume();
  }

  /** Gives the writer what it takes within the time; returns how much that was. */
  async #writeTail(tail: Uint8Array, lingerMs: number): Promise<number> {
    let expired = lingerMs === 0;
    const timer = expired
      ? undefined
      : this.#options.clock.after(lingerMs, () => {
          expired = true;
          this.#onProgress?.();
        });
    let written = 0;
    while (this.#writer !== undefined && this.#state === 'closing') {
      const taken = this.write(tail.subarray(written));
      written += taken;
      if (written === tail.length && !this.#writer.blocked) break;
      if (expired) break;
      await new Promise<void>((settle) => {
        this.#onProgress = settle;
      });
    }
    this.#onProgress = undefined;
    timer?.cancel();
    return written;
  }

  /** While we do not read from a client, nothing tells us that it has gone: ask now and then. */
  #armProbe(): void {
    if (this.#probeTimer !== undefined || this.#state !== 'open') return;
    this.#probeTimer = this.#options.clock.after(PROBE_INTERVAL_MS, () => {
      this.#probeTimer = undefined;
      this.#writer?.probe();
      this.#viewers.probe();
      const silent = this.#writer !== undefined && (this.#writer.ended || this.#input.paused);
      if (silent || this.#viewers.someEnded) this.#armProbe();
    });
  }
}
