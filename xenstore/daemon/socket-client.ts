/**
 * One accepted socket and its engine connection: back-pressure, and waiting for a turn. Nothing of the protocol.
 */
import type { Socket } from 'node:net';
import { type Direct, type DirectSocket, takeOver } from './direct-socket.js';
import type { XenstoreEngine } from './engine.js';
import type { EngineConnection } from './engine-client.js';
import type { Turn } from './turns.js';

/** What a client that does not read may have waiting; libxenstore's reader thread never lets it come near this. */
export const MAX_WAITING_BYTES = { dom0: 64 * 1024 * 1024, guest: 2 * 1024 * 1024 } as const;
/** Requests of a dom0 client are read on until its unread replies reach this: simple clients send much before they read. */
const PAUSE_DOM0_BYTES = 1024 * 1024;
/** A guest's requests are handled in pieces of this size, so that one chunk cannot cause replies without bound. */
const GUEST_PIECE_BYTES = 4096;

const NOTHING = Buffer.alloc(0);

export interface SocketClientOptions {
  readonly domid: number;
  /** Of dom0's clients only. */
  readonly turn: Turn | undefined;
  readonly onOverflow: () => void;
  readonly direct: Direct;
}

export class SocketClient {
  readonly #socket: Socket;
  readonly #flow: DirectSocket;
  readonly #connection: EngineConnection;
  /** Of dom0's clients only. */
  readonly #turn: Turn | undefined;
  readonly #onOverflow: () => void;
  readonly #onTurn = (): void => this.#takeTurn();
  /** Received while the client did not read its replies, or before its turn. */
  #postponed: Buffer | undefined;
  #waitsForTurn = false;

  /** `accepted` is paused; SocketClient may replace it by another: see `socket`. */
  constructor(engine: XenstoreEngine, accepted: Socket, options: SocketClientOptions) {
    const { domid, turn, onOverflow, direct } = options;
    this.#turn = turn;
    this.#onOverflow = onOverflow;
    this.#connection = engine.connect(
      domid,
      (bytes) => this.#send(bytes),
      () => this.#socket.end(),
      (bytes, length) => this.#flow.tryWrite(bytes, length),
      () => this.#resume(),
    );
    // Not before: a client that is refused keeps its socket.
    this.#flow = takeOver(accepted, direct, (chunk) => this.#receive(chunk));
    this.#socket = this.#flow.socket;
  }

  get socket(): Socket {
    return this.#socket;
  }

  start(): void {
    const socket = this.#socket;
    socket.on('drain', () => {
      this.#connection.release();
      this.#resume();
    });
    socket.on('close', () => {
      this.#connection.close();
      this.#turn?.leave();
    });
    this.#flow.resume();
  }

  #receive(chunk: Buffer): void {
    if (this.#turn === undefined) this.#pushOfGuest(chunk);
    else if (this.#waitsForTurn) {
      // Who waits for an answer sends nothing; of others no more than this is read.
      this.#postponed = Buffer.concat([this.#postponed ?? NOTHING, chunk]);
      this.#flow.pause();
    } else if (this.#connection.startsTransaction(chunk) && this.#turn.mustWait(this.#onTurn)) {
      this.#waitsForTurn = true;
      this.#postponed = Buffer.from(chunk);
    } else this.#pushOfDom0(this.#turn, chunk);
  }

  #pushOfDom0(turn: Turn, chunk: Buffer): void {
    this.#connection.push(chunk);
    if (this.#socket.writableLength + this.#connection.waitingBytes > PAUSE_DOM0_BYTES) this.#flow.pause();
    turn.stepped(this.#connection.outcomes);
  }

  #pushOfGuest(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; at += GUEST_PIECE_BYTES) {
      if (this.#socket.writableNeedDrain || !this.#connection.isHeard) {
        this.#postponed = Buffer.from(chunk.subarray(at));
        this.#flow.pause();
        return;
      }
      this.#connection.push(chunk.subarray(at, at + GUEST_PIECE_BYTES));
    }
  }

  #takeTurn(): void {
    const postponed = this.#postponed;
    this.#waitsForTurn = false;
    this.#postponed = undefined;
    this.#flow.resume();
    if (postponed !== undefined && this.#turn !== undefined) this.#pushOfDom0(this.#turn, postponed);
  }

  #resume(): void {
    if (this.#waitsForTurn || this.#socket.writableNeedDrain) return;
    const postponed = this.#postponed;
    this.#postponed = undefined;
    if (postponed !== undefined) this.#receive(postponed);
    if (this.#postponed === undefined) this.#flow.resume();
  }

  #send(bytes: Buffer): void {
    const socket = this.#socket;
    if (socket.destroyed || socket.writableEnded) return;
    const limit = this.#turn === undefined ? MAX_WAITING_BYTES.guest : MAX_WAITING_BYTES.dom0;
    if (socket.writableLength + bytes.length > limit) {
      this.#onOverflow();
      socket.destroy();
    } else if (!socket.write(bytes)) this.#connection.hold();
  }
}
