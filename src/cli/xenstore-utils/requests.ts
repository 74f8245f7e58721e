/**
 * What the utilities ask of a store, one request after the other on one connection, with whatever path the user typed.
 * Strings are latin-1, one character per byte. Source: xen:tools/libs/store/xs.c.
 */
import { Connection } from '../../../xenstore/client/connection.js';
import { readLongDirectory } from '../../../xenstore/client/directory.js';
import type { ConnectOptions } from '../../../xenstore/client/options.js';
import { candidatePaths, openTransport } from '../../../xenstore/client/transport.js';
import { isXenstoreError, XenstoreError } from '../../../xenstore/errors.js';
import { Op, type OpNumber } from '../../../xenstore/wire.js';

export interface StoreOptions extends Pick<ConnectOptions, 'signal'> {
  readonly env: NodeJS.ProcessEnv;
  readonly clock: NonNullable<ConnectOptions['clock']>;
}

export class StoreRequests {
  readonly #connection: Connection;
  /** Of the transaction in progress; 0 outside. */
  #transactionId = 0;
  #onEvent: (path: string) => void = () => {};
  #onBroken: (reason: XenstoreError) => void = () => {};

  /** Throws XenstoreError `unreachable`. */
  static async open({ env, clock, signal }: StoreOptions): Promise<StoreRequests> {
    const { transport } = await openTransport(candidatePaths(env), {
      clock,
      ...(signal === undefined ? {} : { signal }),
    });
    return new StoreRequests((handlers) => new Connection(transport, handlers, { clock, replyTimeoutMs: 0 }));
  }

  private constructor(connect: (handlers: ConstructorParameters<typeof Connection>[1]) => Connection) {
    this.#connection = connect({
      onEvent: (path) => this.#onEvent(Buffer.from(path, 'utf8').toString('latin1')),
      onBroken: (_connection, reason, unanswered) => {
        for (const call of unanswered) call.reject(reason);
        this.#onBroken(reason);
      },
    });
  }

  close(): Promise<void> {
    return this.#connection.close(new XenstoreError('closed', 'the connection was closed'));
  }

  async start(): Promise<void> {
    this.#transactionId = Number((await this.#ask(Op.TransactionStart, '\0')).slice(0, -1));
  }

  async end(commit: boolean): Promise<void> {
    try {
      await this.#ask(Op.TransactionEnd, commit ? 'T\0' : 'F\0');
    } finally {
      this.#transactionId = 0;
    }
  }

  read(path: string): Promise<string> {
    return this.#ask(Op.Read, `${path}\0`);
  }

  async directory(path: string): Promise<string[]> {
    try {
      return strings(await this.#ask(Op.Directory, `${path}\0`));
    } catch (error) {
      if (!isXenstoreError(error, 'E2BIG')) throw error;
      return readLongDirectory(path, (offset) => this.#call(Op.DirectoryPart, `${path}\0${offset}\0`), error);
    }
  }

  /** As the utilities print them. */
  async permissions(path: string): Promise<string> {
    return strings(await this.#ask(Op.GetPerms, `${path}\0`)).join(',');
  }

  async write(path: string, value: string): Promise<void> {
    await this.#ask(Op.Write, `${path}\0${value}`);
  }

  async mkdir(path: string): Promise<void> {
    await this.#ask(Op.Mkdir, `${path}\0`);
  }

  async remove(path: string): Promise<void> {
    await this.#ask(Op.Rm, `${path}\0`);
  }

  async setPermissions(path: string, list: readonly string[]): Promise<void> {
    // libxenstore refuses an empty list by itself, after asking nobody.
    if (list.length === 0) throw new XenstoreError('EINVAL', 'no permission given', { path });
    await this.#ask(Op.SetPerms, [path, ...list, ''].join('\0'));
  }

  async watch(path: string): Promise<void> {
    await this.#ask(Op.Watch, `${path}\0${path}\0`);
  }

  /** Calls `onPath` for each event, in the order of their arrival, until it returns false or the connection ends. */
  events(onPath: (path: string) => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onBroken = reject;
      this.#onEvent = (path) => {
        if (onPath(path)) return;
        this.#onEvent = () => {};
        resolve();
      };
    });
  }

  async #ask(type: OpNumber, payload: string): Promise<string> {
    return (await this.#call(type, payload)).toString('latin1');
  }

  #call(type: OpNumber, payload: string): Promise<Buffer> {
    const bytes = Buffer.from(payload, 'latin1');
    if (bytes.length > this.#connection.maxPayloadBytes) {
      return Promise.reject(new XenstoreError('E2BIG', `request of ${bytes.length} bytes`));
    }
    return this.#connection.call(type, bytes, { transactionId: this.#transactionId }).promise;
  }
}

function strings(payload: string): string[] {
  return payload === '' ? [] : payload.replace(/\0$/, '').split('\0');
}
