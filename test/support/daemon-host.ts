/** A simulated host with the real daemon, guests whose ttys are in memory, and the commands an admin would type. */
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import type { SpoolPlace } from '../../src/backend/spool-files.js';
import type { ChannelStatus, DaemonStatus } from '../../src/backend/status.js';
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import type { LogFields, Logger, LogLevel } from '../../src/base/log.js';
import { backendPath, frontendPath } from '../../src/console/layout.js';
import { type ChannelSpecInput, parseChannelSpec } from '../../src/console/spec.js';
import { type AttachResult, attach } from '../../src/dom0/attach.js';
import { type DetachRequest, detach } from '../../src/dom0/detach.js';
import type { Dom0Environment } from '../../src/dom0/environment.js';
import { SimulatedHost } from '../../src/simulation/host.js';
import { type MemoryTty, memoryTtys } from '../../src/simulation/memory-tty.js';
import type { Store } from '../../xenstore/index.js';
import { temporaryDirectory } from './temp-directory.js';
import { until } from './until.js';

export interface LogLine {
  readonly level: LogLevel;
  readonly msg: string;
  readonly fields: LogFields;
}

/** Keeps what was logged. */
export function keepingLog(lines: LogLine[], base: LogFields = {}): Logger {
  return {
    log: (level, msg, fields = {}) => void lines.push({ level, msg, fields: { ...base, ...fields } }),
    with: (fields) => keepingLog(lines, { ...base, ...fields }),
  };
}

export class HostClient {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];
  ended = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#chunks.push(chunk));
    socket.on('end', () => {
      this.ended = true;
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.ended = true;
    });
  }

  static async dial(path: string): Promise<HostClient> {
    const socket = connect({ path, allowHalfOpen: true });
    onTestFinished(() => void socket.destroy());
    const client = new HostClient(socket);
    await new Promise<void>((settle, fail) => {
      socket.once('connect', settle);
      socket.once('error', fail);
    });
    return client;
  }

  get received(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

export class DaemonHost {
  readonly host: SimulatedHost;
  readonly env: Dom0Environment;
  readonly lines: MemoryTty[];
  readonly log: LogLine[];

  private constructor(host: SimulatedHost, env: Dom0Environment, lines: MemoryTty[], log: LogLine[]) {
    this.host = host;
    this.env = env;
    this.lines = lines;
    this.log = log;
  }

  static async start({
    domains = 1,
    clock = systemClock as Clock,
    daemon = true,
    spool = 'auto' as SpoolPlace,
  } = {}): Promise<DaemonHost> {
    const ttys = memoryTtys();
    const log: LogLine[] = [];
    const root = temporaryDirectory('xc-');
    const kept = keepingLog(log);
    const host = await SimulatedHost.start({ root, domains, clock, ttys, agent: false, daemon, spool, log: kept });
    onTestFinished(() => host.stop());
    return new DaemonHost(host, { runDirectory: host.runDirectory, backendDomid: 0, clock }, ttys.lines, log);
  }

  get store(): Store {
    return this.host.store;
  }

  get status(): DaemonStatus {
    const { daemon } = this.host;
    if (daemon === undefined) throw new Error('the daemon is not running');
    return daemon.status();
  }

  channel(deviceId = 1, domid = 1): ChannelStatus {
    const found = this.status.channels.find((one) => one.domid === domid && one.deviceId === deviceId);
    if (found === undefined) throw new Error(`channel ${domid}/${deviceId} is not served`);
    return found;
  }

  isServed(deviceId = 1, domid = 1): boolean {
    return this.status.channels.some((one) => one.domid === domid && one.deviceId === deviceId);
  }

  attach(input: Partial<ChannelSpecInput> = {}, domain = '1'): Promise<AttachResult> {
    const spec = parseChannelSpec({ name: 'org.example.a', ...input });
    return attach(this.store, { domain, spec }, this.env);
  }

  detach(request: Partial<DetachRequest> = {}): Promise<unknown> {
    return detach(this.store, { domain: '1', name: 'org.example.a', ...request }, this.env);
  }

  /** Attaches, waits for 4/4, and returns the guest's line. */
  async plug(input: Partial<ChannelSpecInput> = {}): Promise<{ tty: MemoryTty; path: string; deviceId: number }> {
    const { path, deviceId } = await this.attach(input);
    await this.states(deviceId, '4', '4');
    const tty = this.lines.at(-1);
    if (tty === undefined) throw new Error('the guest has no line');
    await until('the host end is open', () => this.channel(deviceId).problems.length === 0);
    return { tty, path, deviceId };
  }

  /** Waits until frontend and backend say so; undefined: the node is absent. */
  async states(deviceId: number, frontend: string | undefined, backend: string | undefined, domid = 1): Promise<void> {
    const address = { domid, deviceId, backendDomid: 0 };
    let seen: (string | undefined)[] = [];
    for (const endMs = Date.now() + 5000; Date.now() < endMs; ) {
      seen = await Promise.all([
        this.store.tryReadText(`${frontendPath(domid, deviceId)}/state`),
        this.store.tryReadText(`${backendPath(address)}/state`),
      ]);
      if (seen[0] === frontend && seen[1] === backend) return;
    }
    throw new Error(`channel ${domid}/${deviceId} is at ${seen.join('/')}, not ${frontend}/${backend}`);
  }

  client(path: string): Promise<HostClient> {
    return HostClient.dial(path);
  }

  /** GET on the control socket. */
  get(path: string, method = 'GET'): Promise<{ code: number | undefined; body: unknown }> {
    return new Promise((settle, fail) => {
      const socketPath = `${this.host.runDirectory}/control.sock`;
      const call = request({ socketPath, path, method, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          settle({ code: response.statusCode, body: text === '' ? undefined : JSON.parse(text) });
        });
      });
      call.on('error', fail);
      call.end();
    });
  }
}
