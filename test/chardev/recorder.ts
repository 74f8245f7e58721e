/** What a session would see of its chardev. */
import { expect } from 'vitest';
import type { ChardevEvents } from '../../src/chardev/chardev.js';
import { until } from '../support/until.js';

export class Recorder implements ChardevEvents {
  readonly input: Uint8Array[] = [];
  readonly returned: Uint8Array[] = [];
  readonly clients: boolean[] = [];
  readonly failures: Error[] = [];
  writable = 0;
  onInputHook: () => void = () => {};
  onClientHook: (connected: boolean) => void = () => {};

  onClient(connected: boolean): void {
    this.clients.push(connected);
    this.onClientHook(connected);
  }
  onInput(bytes: Uint8Array): void {
    this.input.push(Buffer.from(bytes));
    this.onInputHook();
  }
  onWritable(): void {
    this.writable++;
  }
  onReturned(bytes: Uint8Array): void {
    this.returned.push(Buffer.from(bytes));
  }
  onFailure(error: Error): void {
    this.failures.push(error);
  }

  get received(): Buffer {
    return Buffer.concat(this.input);
  }

  async untilReceived(text: string): Promise<void> {
    await until(`${JSON.stringify(text)} from the client`, () => this.received.length >= text.length);
    expect(this.received.toString('latin1')).toBe(text);
  }

  async untilClients(...clients: boolean[]): Promise<void> {
    await until(`clients ${clients.join()}`, () => this.clients.length >= clients.length);
    expect(this.clients).toEqual(clients);
  }
}
