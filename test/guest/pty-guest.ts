/**
 * A guest made of real terminals and a real xenstore socket, for whatever runs as a program of its own: the shell
 * helper, xenstore-utils, socat. The kernel and the backend are played here; the terminals start cooked, as hvc's do.
 */
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Pty } from '../../src/sys/pty.js';
import { permissions, type Store, XenstoreClient, XenstoreEngine, XenstoreServer } from '../../xenstore/index.js';
import type { PlugOptions } from './fake-guest.js';

const DOMID = 5;
const GUEST = permissions('n5', 'r0');
const READ_ONLY = permissions('n0', 'r5');

export class PtyGuest {
  readonly root = mkdtempSync(join(tmpdir(), 'xenchannel-pty-'));
  /** In place of /dev/xen/xenbus. */
  readonly socket = join(this.root, 'xenbus');
  readonly lines: (Pty | undefined)[] = new Array(8).fill(undefined);
  readonly #indices = new Map<number, number>();
  readonly #store: XenstoreClient;
  readonly #server: XenstoreServer;
  #rings = 8;

  private constructor(store: XenstoreClient, server: XenstoreServer) {
    this.#store = store;
    this.#server = server;
  }

  static async start(): Promise<PtyGuest> {
    const engine = new XenstoreEngine();
    const server = new XenstoreServer(engine);
    const directory = mkdtempSync(join(tmpdir(), 'xenchannel-xs-'));
    await server.listen(join(directory, 's'));
    const store = await XenstoreClient.connect({ path: join(directory, 's') });
    engine.createDomain(DOMID);
    engine.introduceDomain(DOMID);
    const guest = new PtyGuest(store, server);
    rmSync(directory, { recursive: true });
    await server.listen(guest.socket, DOMID);
    mkdirSync(join(guest.root, 'dev'));
    mkdirSync(join(guest.root, 'sys/class/tty/console'), { recursive: true });
    writeFileSync(join(guest.root, 'sys/class/tty/console/active'), 'tty0 hvc0\n');
    await store.transaction(async (tx) => {
      for (const path of ['', '/device', '/device/console']) {
        await tx.mkdir(`/local/domain/${DOMID}${path}`);
        await tx.setPermissions(`/local/domain/${DOMID}${path}`, READ_ONLY);
      }
    });
    guest.#line(0);
    return guest;
  }

  #line(index: number): Pty {
    const pty = new Pty({ mode: 'cooked', holdSlave: false });
    this.lines[index] = pty;
    symlinkSync(pty.slavePath, join(this.root, 'dev', `hvc${index}`));
    return pty;
  }

  #at(deviceId: number): string {
    return `/local/domain/${DOMID}/device/console/${deviceId}`;
  }

  /** The line of a console that is plugged. */
  index(deviceId: number): number {
    return this.#indices.get(deviceId) ?? -1;
  }

  async plug(deviceId: number, options: PlugOptions = {}): Promise<Pty> {
    const { name, type = 'xenchannel', answers = 'always', state = '4' } = options;
    const index = this.lines.indexOf(undefined);
    const pty = this.#line(index);
    this.#indices.set(deviceId, index);
    const ring = this.#rings++;
    const at = this.#at(deviceId);
    await this.#store.transaction(async (tx) => {
      await tx.mkdir(at);
      await tx.setPermissions(at, GUEST);
      for (const [key, value] of Object.entries({ state, 'ring-ref': String(ring), port: String(ring) })) {
        await tx.write(`${at}/${key}`, value);
        await tx.setPermissions(`${at}/${key}`, GUEST);
      }
      for (const [key, value] of Object.entries({ type, ...(name === undefined ? {} : { name }) })) {
        await tx.write(`${at}/${key}`, value);
        await tx.setPermissions(`${at}/${key}`, READ_ONLY);
      }
    });
    if (answers === 'always') await this.#answer(deviceId, pty);
    return pty;
  }

  /** The backend's part: the key goes in the step that answers it. */
  async #answer(deviceId: number, pty: Pty): Promise<void> {
    const key = `${this.#at(deviceId)}/xenchannel-identify`;
    await this.#store.watch(key, async () => {
      const nonce = await this.#store.tryReadText(key).catch(() => undefined);
      if (nonce === undefined || this.lines[this.index(deviceId)] !== pty) return;
      await this.#store.rm(key);
      pty.write(Buffer.from(`XCID ${nonce}\n`));
    });
  }

  async unplug(deviceId: number): Promise<void> {
    const index = this.index(deviceId);
    rmSync(join(this.root, 'dev', `hvc${index}`));
    this.lines[index]?.close();
    this.lines[index] = undefined;
    this.#indices.delete(deviceId);
    await this.#store.rm(this.#at(deviceId));
  }

  /** What the guest has claimed of a console, as dom0 sees it. */
  claim(deviceId: number): Promise<string | undefined> {
    return this.#store.tryReadText(`${this.#at(deviceId)}/xenchannel-guest-open`);
  }

  /** Resolves when `fn` says so; asked again at every change in xenstore. */
  async until(what: string, fn: () => Promise<boolean>): Promise<void> {
    await this.#store.waitUntil(fn, { what, paths: [`/local/domain/${DOMID}/device`], timeoutMs: 15_000 });
  }

  /** Resolves when process `pid` has the line open. The kernel says so to nobody, so one has to look. */
  async untilOpenIn(pid: number, index: number): Promise<void> {
    const line = this.lines[index]?.slavePath;
    const open = (fd: string): boolean => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === line;
      } catch {
        return false;
      }
    };
    while (!readdirSync(`/proc/${pid}/fd`).some(open)) await new Promise((turn) => setTimeout(turn, 5));
  }

  /** A connection with the rights of this guest. */
  connect(): Promise<Store> {
    return XenstoreClient.connect({ path: this.socket });
  }

  async stop(): Promise<void> {
    await this.#store.close();
    await this.#server.close();
    for (const pty of this.lines) pty?.close();
    rmSync(this.root, { recursive: true, force: true });
  }
}
