/**
 * Enough of QMP to give a running QEMU a chardev and to take it back. One command at a time, every wait and every
 * message bounded. Source: qemu:docs/interop/qmp-spec.rst; knows nothing of xenstore.
 */
import { connect, type Socket } from 'node:net';
import type { Clock } from '../base/clock.js';
import { ChannelError } from '../base/errors.js';
import { printable } from '../console/name.js';

/** libxl's own commands take milliseconds; a monitor that is in use by somebody else does not answer at all. */
const ANSWER_TIMEOUT_MS = 5000;
const MAX_MESSAGE_BYTES = 1024 * 1024;

type QmpMessage = Readonly<Record<string, unknown>>;

export class QmpClient {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #clock: Clock;
  #text = '';
  #messages: QmpMessage[] = [];
  #failure: ChannelError | undefined;
  #wake = (): void => {};

  private constructor(socket: Socket, path: string, clock: Clock) {
    this.#socket = socket;
    this.#path = path;
    this.#clock = clock;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', (error) => this.#fail(`${(error as NodeJS.ErrnoException).code ?? error.message}`));
    socket.on('close', () => this.#fail('it closed the connection'));
  }

  /** Throws ChannelError `qemu-unreachable`. */
  static async connect(path: string, clock: Clock): Promise<QmpClient> {
    const client = new QmpClient(connect({ path }), path, clock);
    try {
      const greeting = await client.#next();
      if (greeting['QMP'] === undefined) throw client.#unreachable('it is no QMP monitor');
      await client.execute('qmp_capabilities');
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** The `return` member. Throws ChannelError `qemu-refused` with QEMU's words, or `qemu-unreachable`. */
  async execute(command: string, parameters?: QmpMessage): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: command, ...(parameters && { arguments: parameters }) })}\r\n`);
    for (;;) {
      const message = await this.#next();
      if ('return' in message) return message['return'];
      if ('error' in message) {
        const { desc } = message['error'] as { desc?: unknown };
        throw new ChannelError('qemu-refused', `QEMU refused ${command}: ${printable(String(desc), 200)}`, { command });
      }
      // Anything else is an event.
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  async #next(): Promise<QmpMessage> {
    const timer = this.#clock.after(ANSWER_TIMEOUT_MS, () =>
      this.#fail(`no answer within ${ANSWER_TIMEOUT_MS / 1000} s; another program may be using this monitor`),
    );
    try {
      for (;;) {
        const message = this.#messages.shift();
        if (message !== undefined) return message;
        if (this.#failure !== undefined) throw this.#failure;
        await new Promise<void>((wake) => {
          this.#wake = wake;
        });
      }
    } finally {
      timer.cancel();
    }
  }

  #receive(text: string): void {
    this.#text += text;
    if (this.#text.length > MAX_MESSAGE_BYTES) this.#fail(`it sent a message of more than ${MAX_MESSAGE_BYTES} bytes`);
    const lines = this.#text.split('\n');
    this.#text = lines.pop() ?? '';
    for (const line of lines) {
      try {
        if (line.trim() !== '') this.#messages.push(JSON.parse(line) as QmpMessage);
      } catch {
        this.#fail('it sent what is no JSON');
      }
    }
    this.#wake();
  }

  #fail(why: string): void {
    this.#failure ??= this.#unreachable(why);
    this.#socket.destroy();
    this.#wake();
  }

  #unreachable(why: string): ChannelError {
    return new ChannelError('qemu-unreachable', `QEMU cannot be asked at ${this.#path}: ${why}`, { path: this.#path });
  }
}
