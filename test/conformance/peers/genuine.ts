/**
 * Debian's C xenstored and oxenstored 4.17, run without Xen on the hypervisor made of files (hypervisor.c). Privileged
 * connections use the daemon's socket, domains the shared ring through ring-guest.c.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Wire } from '../connection.js';
import type { MachineVerb, Peer } from './peer.js';
import { connectTo } from './socket.js';

export type GenuineKind = 'xenstored-4.17' | 'oxenstored-4.17';

const START_LIMIT_MS = 10_000;
const VIRQ_DOM_EXC = '1';

/** The command that starts the daemon in the foreground. */
function commandOf(kind: GenuineKind, cache: string, folder: string, options: readonly string[]): string[] {
  const bin = join(cache, 'root/usr/lib/xen-4.17/bin');
  if (kind === 'xenstored-4.17') return [join(bin, 'xenstored'), '--no-fork', ...options];
  const shipped = readFileSync(join(cache, 'root/etc/xen/oxenstored.conf'), 'utf8');
  const settings = shipped
    .replace(/^xenstored-kva.*$/m, `xenstored-kva = ${folder}/dom-0.page`)
    .replace(/^xenstored-port.*$/m, `xenstored-port = ${folder}/xsd_port`)
    .replace(/^pid-file.*$/m, `pid-file = ${folder}/pid`);
  writeFileSync(join(folder, 'oxenstored.conf'), settings);
  return [join(bin, 'oxenstored'), '--no-fork', '--config-file', join(folder, 'oxenstored.conf'), ...options];
}

export class GenuineDaemon implements Peer {
  readonly name: GenuineKind;
  readonly silenceMs = 600;
  readonly #cache: string;
  readonly #folder: string;
  readonly #daemon: ChildProcess;
  readonly #guests = new Map<number, ChildProcess>();
  #output = '';

  private constructor(kind: GenuineKind, cache: string, options: readonly string[]) {
    this.name = kind;
    this.#cache = cache;
    this.#folder = mkdtempSync(join(tmpdir(), 'xs-'));
    mkdirSync(join(this.#folder, 'run'));
    const [program = '', ...rest] = commandOf(kind, cache, this.#folder, options);
    this.#daemon = spawn(program, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        HYPERVISOR_DIR: this.#folder,
        XENSTORED_RUNDIR: join(this.#folder, 'run'),
        XENSTORED_PATH: this.socketPath,
        LD_LIBRARY_PATH: join(cache, 'root/usr/lib/x86_64-linux-gnu'),
        LD_PRELOAD: join(cache, 'hypervisor.so'),
      },
    });
    for (const stream of [this.#daemon.stdout, this.#daemon.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        this.#output = (this.#output + bytes.toString()).slice(-4000);
      });
    }
  }

  /** Resolves when the daemon accepts connections. */
  static async start(kind: GenuineKind, cache: string, options: readonly string[] = []): Promise<GenuineDaemon> {
    const daemon = new GenuineDaemon(kind, cache, options);
    const end = Date.now() + START_LIMIT_MS;
    for (;;) {
      try {
        (await connectTo(daemon.socketPath)).close();
        return daemon;
      } catch (error) {
        if (daemon.#daemon.exitCode !== null || daemon.#daemon.signalCode !== null || Date.now() > end) {
          await daemon.close();
          throw new Error(`${kind} did not start: ${daemon.#output.trim() || (error as Error).message}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }
  }

  get socketPath(): string {
    return join(this.#folder, 'run/socket');
  }

  get pid(): number {
    return this.#daemon.pid ?? 0;
  }

  connect(): Promise<Wire> {
    return connectTo(this.socketPath);
  }

  async connectDomain(domid: number): Promise<Wire> {
    const guest = spawn(join(this.#cache, 'ring-guest'), [this.#folder, String(domid)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#guests.set(domid, guest);
    guest.stdin.on('error', () => {}); // 'exit' follows
    return {
      send: (bytes) => void guest.stdin.write(bytes),
      onBytes: (listener) => void guest.stdout.on('data', listener),
      onClosed: (listener) => void guest.on('close', listener),
      // The guest leaves its ring full; pausing the pipe alone would let it fill 64 KiB more.
      pause: () => void guest.kill('SIGUSR1'),
      resume: () => void guest.kill('SIGUSR2'),
      close: () => this.#stopGuest(domid),
    };
  }

  #stopGuest(domid: number): void {
    this.#guests.get(domid)?.kill('SIGKILL');
    this.#guests.delete(domid);
  }

  #file(domid: number, what: string): string {
    return join(this.#folder, `dom-${domid}.${what}`);
  }

  async machine(verb: MachineVerb, domid: number): Promise<void> {
    if (verb === 'create') {
      for (const what of ['dying', 'shutdown']) rmSync(this.#file(domid, what), { force: true });
      rmSync(this.#file(domid, 'page'), { force: true });
      writeFileSync(this.#file(domid, 'page'), Buffer.alloc(4096));
      return;
    }
    if (verb === 'destroy') {
      this.#stopGuest(domid);
      rmSync(this.#file(domid, 'page'), { force: true });
    } else if (verb !== 'notice') writeFileSync(this.#file(domid, verb), '');
    const raise = spawn(join(this.#cache, 'ring-guest'), [this.#folder, 'raise', VIRQ_DOM_EXC], { stdio: 'inherit' });
    await once(raise, 'exit');
  }

  async close(): Promise<void> {
    for (const domid of [...this.#guests.keys()]) this.#stopGuest(domid);
    if (this.#daemon.exitCode === null && this.#daemon.signalCode === null) {
      const gone = once(this.#daemon, 'exit');
      this.#daemon.kill('SIGKILL');
      await gone;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Whether the programs are there; scripts/conformance fetches and builds them. */
  static isAvailable(cache: string): boolean {
    return ['hypervisor.so', 'ring-guest', 'root/usr/lib/xen-4.17/bin/xenstored'].every((file) =>
      existsSync(join(cache, file)),
    );
  }
}
