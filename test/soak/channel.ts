/**
 * One channel under load: a program at each end that writes its own stream and checks the other's, with pauses, goodbyes
 * and half-closes at random; and the account of every byte.
 */
import type { ChannelStatus } from '../../src/backend/status.js';
import type { GuestEnd } from './guest-end.js';
import { HostClient } from './host-client.js';
import type { Random } from './random.js';
import { PositionalStream, StreamChecker } from './stream.js';

/** What a client that leaves without reading may leave in its socket: net.core.wmem_default, and Node's read-ahead. */
export const SOCKET_BYTES = 212_992 + 65_536;
const MAX_PIECE_BYTES = 8192;

/** What the daemon says of a channel, as far as bytes are concerned. */
export type Figures = Pick<
  ChannelStatus,
  'fromGuestBytes' | 'deliveredBytes' | 'droppedBytes' | 'spoolBytes' | 'toGuestBytes'
> & {
  readonly inputDroppedBytes: number;
  /** Read from clients and not yet in the ring. */
  readonly inputBytes: number;
};

/** What it says when a channel is over. */
export type Final = Omit<Figures, 'inputDroppedBytes' | 'inputBytes'>;

export interface ChannelPlace {
  readonly domid: number;
  readonly deviceId: number;
  readonly name: string;
  readonly path: string;
}

/** Everything that happened to a channel since it was plugged in. */
export interface Account {
  readonly label: string;
  readonly up: {
    readonly produced: number;
    readonly received: number;
    readonly repeated: number;
    readonly missing: number;
    readonly holes: number;
    readonly dropped: number;
    /** In the spool of a daemon that was killed. */
    readonly crashed: number;
    /** Given to a client that left without reading it, or lost on the way to one when the daemon was killed. */
    readonly abandoned: number;
    /** Left when the channel ended. */
    readonly outstanding: number;
  };
  readonly down: {
    readonly accepted: number;
    readonly received: number;
    readonly repeated: number;
    readonly missing: number;
    readonly holes: number;
    readonly dropped: number;
    readonly crashed: number;
    readonly outstanding: number;
  };
  readonly crashes: number;
  /** The spool is in a file: a killed daemon costs nothing that came from the guest. */
  readonly spoolSurvives: boolean;
  readonly clients: number;
  readonly complaints: readonly string[];
}

const NONE: Figures = {
  fromGuestBytes: 0,
  deliveredBytes: 0,
  droppedBytes: 0,
  spoolBytes: 0,
  toGuestBytes: 0,
  inputDroppedBytes: 0,
  inputBytes: 0,
};

export class SoakChannel {
  readonly place: ChannelPlace;
  readonly label: string;
  readonly #random: Random;
  readonly #guest: GuestEnd;
  readonly #upStream: PositionalStream;
  readonly #downStream: PositionalStream;
  readonly #up: StreamChecker;
  readonly #down: StreamChecker;
  readonly complaints: string[] = [];
  #upProduced = 0;
  #downAccepted = 0;
  #client: HostClient | undefined;
  #admitted = false;
  #dialledAt: { readonly generation: number; readonly clients: number } | undefined;
  #halfClosed = false;
  #clientStuck = false;
  #guestStuck = false;
  #quiet = false;
  #staying = false;
  #clients = 0;
  #undrained = 0;
  #crashes = 0;
  /** Of the daemons that were killed. */
  #before = { ...NONE, downLost: 0, crashedSpool: 0 };
  #last: Figures = NONE;
  #spoolSurvives = false;
  #clientsNow = { generation: -1, clients: 0 };

  constructor(place: ChannelPlace, guest: GuestEnd, key: number, random: Random) {
    this.place = place;
    this.label = `${place.domid}/${place.deviceId} ${place.name}`;
    this.#random = random;
    this.#guest = guest;
    this.#upStream = new PositionalStream(key);
    this.#downStream = new PositionalStream(key ^ 0x5bd1e995);
    this.#up = new StreamChecker(`${this.label} to the host`, this.#upStream, () => this.#upProduced);
    this.#down = new StreamChecker(`${this.label} to the guest`, this.#downStream, () => this.#downAccepted);
  }

  /** The client waits to hear that the daemon has it: only then its bytes count. */
  get awaitsAdmission(): boolean {
    return this.#client?.connected === true && !this.#admitted;
  }

  get movedBytes(): number {
    return this.#up.received + this.#down.received;
  }

  /** What the daemon says now; `generation` tells one daemon from the next. */
  sample(status: ChannelStatus, generation: number): void {
    const dropped = status.chardev['inputDroppedBytes'];
    const backlog = status.chardev['inputBacklogBytes'];
    const clients = status.chardev['clients'];
    this.#last = {
      ...status,
      inputDroppedBytes: typeof dropped === 'number' ? dropped : 0,
      inputBytes: status.inputBytes + (typeof backlog === 'number' ? backlog : 0),
    };
    this.#clientsNow = { generation, clients: typeof clients === 'number' ? clients : 0 };
    this.#spoolSurvives = status.spool === 'file';
    const { fromGuestBytes, deliveredBytes, droppedBytes, spoolBytes } = status;
    // While a channel is taken away, its last bytes are on their way to the client and in no figure.
    if (!status.detaching && fromGuestBytes !== deliveredBytes + droppedBytes + spoolBytes) {
      this.#complain(
        `the daemon's own ledger: ${fromGuestBytes} != ${deliveredBytes} + ${droppedBytes} + ${spoolBytes}`,
      );
    }
    const before = this.#dialledAt;
    if (!this.awaitsAdmission || before === undefined || before.generation !== generation) return;
    this.#admitted = this.#clientsNow.clients > before.clients;
  }

  /** After `sample`: the daemon stopped in order. What its host end alone counted begins anew. */
  stopped(): void {
    this.#before.inputDroppedBytes += this.#last.inputDroppedBytes;
    this.#last = { ...this.#last, inputDroppedBytes: 0 };
  }

  /** After `sample`: the daemon was killed. */
  crashed(): void {
    const { fromGuestBytes, deliveredBytes, droppedBytes, spoolBytes, toGuestBytes } = this.#last;
    this.stopped();
    this.#crashes++;
    this.#before.toGuestBytes += toGuestBytes;
    if (this.#spoolSurvives) {
      // The next daemon goes on counting where this one stopped.
      this.#last = { ...this.#last, toGuestBytes: 0 };
    } else {
      this.#before.fromGuestBytes += fromGuestBytes;
      this.#before.deliveredBytes += deliveredBytes;
      this.#before.droppedBytes += droppedBytes;
      this.#before.crashedSpool += spoolBytes;
      this.#last = NONE;
    }
    this.#before.downLost = this.#downAccepted - this.#before.toGuestBytes - this.#before.inputDroppedBytes;
  }

  /** One turn of both programs; `generation` tells the daemon that listens now from those before. */
  step(generation: number): void {
    this.#stepGuest();
    this.#stepClient(generation);
  }

  /** No more than what is needed to bring the rest home. */
  quiesce(): void {
    this.#quiet = true;
    this.#guestStuck = false;
    this.#unstick();
    if (this.#halfClosed) this.#leave({ drain: true });
  }

  /** Nothing is under way any more, as far as this end can see. */
  get settled(): boolean {
    const { spoolBytes, toGuestBytes } = this.#last;
    const received = this.#down.received === this.#before.toGuestBytes + toGuestBytes;
    return this.#admitted && spoolBytes === 0 && this.#guest.unsent === 0 && this.#downUnderWay() === 0 && received;
  }

  /** A last piece each way, behind everything else: when it arrives, every hole before it is known. */
  writeLast(bytes: number): boolean {
    const up = this.#guest.write(this.#upStream.bytes(this.#upProduced, bytes));
    this.#upProduced += up;
    const down = this.#client?.write(this.#downStream.bytes(this.#downAccepted, bytes)) ?? 0;
    this.#downAccepted += down;
    return up > 0 && down > 0;
  }

  get arrived(): boolean {
    const ends = this.#up.end === this.#upProduced && this.#down.end === this.#downAccepted;
    return ends && this.#up.unplaced + this.#down.unplaced === 0;
  }

  /** For a message: what is still under way. */
  describe(): string {
    const { spoolBytes, inputBytes } = this.#last;
    const underWay = this.#downUnderWay();
    return `${this.label}: admitted ${this.#admitted}, unsent ${this.#guest.unsent}, spool ${spoolBytes}, to the guest ${underWay} of which the daemon has ${inputBytes}`;
  }

  /** After `sample` behind an orderly restart: what clients had sent is in the ring or with the new daemon. */
  checkRestored(): void {
    const underWay = this.#downUnderWay();
    const { inputBytes } = this.#last;
    if (underWay !== inputBytes)
      this.#complain(`an orderly restart left ${inputBytes} of ${underWay} bytes that clients had sent`);
  }

  reopen(): void {
    this.#down.push(this.#guest.read());
    this.#guest.reopen();
  }

  /** From now on the client stays as it is. True: it reads, and will read what comes at the end. */
  stay(): boolean {
    this.#staying = true;
    return this.#admitted && this.#client?.connected === true && !this.#clientStuck;
  }

  /** The channel is over: reads what is left at both ends. False: the client has not seen its end yet. */
  finishReading(): boolean {
    this.#quiet = true;
    this.#unstick();
    for (let bytes = this.#guest.read(); bytes.length > 0; bytes = this.#guest.read()) this.#down.push(bytes);
    if (this.#client !== undefined && !this.#client.over) return false;
    this.#client = undefined;
    return true;
  }

  close(): void {
    this.#leave({ drain: true });
    this.#guest.close();
  }

  /** `final`: what the daemon said when the channel ended; undefined while it is served. */
  account(final?: Final): Account {
    if (final !== undefined) this.#last = { ...this.#last, ...final };
    const { fromGuestBytes, deliveredBytes, droppedBytes, toGuestBytes } = this.#last;
    const before = this.#before;
    const produced = before.fromGuestBytes + fromGuestBytes;
    const dropped = this.#dropped();
    const delivered = before.deliveredBytes + deliveredBytes;
    const outstanding = fromGuestBytes - deliveredBytes - droppedBytes;
    const distinct = this.#up.received - this.#up.repeated;
    const toGuest = before.toGuestBytes + toGuestBytes;
    return {
      label: this.label,
      up: {
        produced,
        received: distinct,
        repeated: this.#up.repeated,
        missing: produced - distinct,
        holes: this.#up.holes.length,
        dropped: dropped.up,
        crashed: before.crashedSpool,
        abandoned: delivered - Math.min(distinct, delivered),
        outstanding: outstanding - Math.max(0, distinct - delivered),
      },
      down: {
        accepted: this.#downAccepted,
        received: this.#down.received - this.#down.repeated,
        repeated: this.#down.repeated,
        missing: this.#down.missing,
        holes: this.#down.holes.length,
        dropped: dropped.down,
        crashed: before.downLost,
        outstanding: this.#downAccepted - toGuest - before.downLost - dropped.down,
      },
      crashes: this.#crashes,
      spoolSurvives: this.#spoolSurvives,
      clients: this.#clients,
      complaints: this.complaints,
    };
  }

  /** What clients that left without reading, and daemons that were killed, may have cost at most. */
  get abandonable(): number {
    return this.#undrained * SOCKET_BYTES;
  }

  /** Bytes that the guest's program has written. */
  get written(): number {
    return this.#upProduced;
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** Taken from clients, and neither in the ring nor known to be lost. */
  #downUnderWay(): number {
    const gone = this.#before.downLost + this.#dropped().down;
    return this.#downAccepted - this.#before.toGuestBytes - this.#last.toGuestBytes - gone;
  }

  #dropped(): { readonly up: number; readonly down: number } {
    return {
      up: this.#before.droppedBytes + this.#last.droppedBytes,
      down: this.#before.inputDroppedBytes + this.#last.inputDroppedBytes,
    };
  }

  #complain(what: string): void {
    if (this.complaints.length < 20) this.complaints.push(what);
  }

  #stepGuest(): void {
    const random = this.#random;
    if (!this.#quiet && random.chance(1 / 300)) this.#guestStuck = !this.#guestStuck;
    if (!this.#guestStuck) this.#down.push(this.#guest.read());
    if (this.#quiet || !random.chance(0.5)) return;
    const length = random.magnitude(MAX_PIECE_BYTES);
    this.#upProduced += this.#guest.write(this.#upStream.bytes(this.#upProduced, length));
  }

  #stepClient(generation: number): void {
    const random = this.#random;
    if (this.#client?.over === true) this.#forget();
    if (this.#client === undefined) {
      if (this.#quiet || random.chance(1 / 20)) this.#dial(generation);
      return;
    }
    if (this.#quiet) {
      if (!this.#client.writable) this.#unstick();
      return;
    }
    if (random.chance(1 / 300) && !this.#staying) this.#toggleStuck(this.#client);
    if (!this.#admitted) return;
    if (random.chance(0.5)) {
      const length = random.magnitude(MAX_PIECE_BYTES);
      this.#downAccepted += this.#client.write(this.#downStream.bytes(this.#downAccepted, length));
    }
    if (this.#staying) return;
    if (random.chance(1 / 600) && !this.#halfClosed) {
      this.#halfClosed = true;
      this.#client.endInput();
    }
    if (random.chance(1 / 500)) this.#leave({ drain: true });
    else if (random.chance(1 / 2000)) this.#leave({ drain: false });
  }

  #dial(generation: number): void {
    this.#clients++;
    // A new daemon counts from zero.
    this.#dialledAt = this.#clientsNow.generation === generation ? this.#clientsNow : { generation, clients: 0 };
    this.#client = new HostClient(this.place.path, (bytes) => this.#up.push(bytes));
  }

  #leave(how: { readonly drain: boolean }): void {
    if (this.#client === undefined) return;
    if (!how.drain) this.#undrained++;
    this.#client.leave(how);
    this.#forget();
  }

  #forget(): void {
    this.#client = undefined;
    this.#admitted = false;
    this.#halfClosed = false;
    this.#clientStuck = false;
  }

  #toggleStuck(client: HostClient): void {
    this.#clientStuck = !this.#clientStuck;
    if (this.#clientStuck) client.pause();
    else client.resume();
  }

  #unstick(): void {
    this.#clientStuck = false;
    this.#client?.resume();
  }
}
