/** A xenstore of one guest over a map: relative paths only, watches, transactions one after another. */
import {
  type Permissions,
  permissions,
  type Store,
  type StoreOperations,
  XenstoreError,
} from '../../xenstore/index.js';

export class FakeStore implements Store {
  readonly nodes = new Map<string, Buffer>();
  readonly #watches = new Set<{ path: string; listener: (path: string) => void }>();
  /** Paths that answer EACCES. */
  readonly forbidden = new Set<string>();
  /** Every path written or removed, by anybody. */
  readonly changes: string[] = [];

  /** What the toolstack, the kernel or the backend does. */
  put(path: string, value: string | Uint8Array): void {
    this.nodes.set(path, Buffer.from(value));
    this.#fire(path);
  }

  drop(path: string): void {
    for (const key of [...this.nodes.keys()]) if (key === path || key.startsWith(`${path}/`)) this.nodes.delete(key);
    this.#fire(path);
  }

  text(path: string): string | undefined {
    return this.nodes.get(path)?.toString('latin1');
  }

  /** The connection of a killed process goes, and its watches with it. */
  dropWatches(path: string): void {
    for (const watch of [...this.#watches]) if (watch.path === path) this.#watches.delete(watch);
  }

  #fire(changed: string): void {
    this.changes.push(changed);
    for (const { path, listener } of [...this.#watches]) {
      if (changed === path || changed.startsWith(`${path}/`)) queueMicrotask(() => listener(changed));
    }
  }

  #check(path: string): void {
    if (this.forbidden.has(path)) throw new XenstoreError('EACCES', `${path}: EACCES`, { path });
  }

  async read(path: string): Promise<Buffer> {
    this.#check(path);
    const value = this.nodes.get(path);
    if (value === undefined) throw new XenstoreError('ENOENT', `${path}: ENOENT`, { path });
    return value;
  }
  async readText(path: string): Promise<string> {
    return (await this.read(path)).toString('utf8');
  }
  async tryReadText(path: string): Promise<string | undefined> {
    return this.nodes.get(path)?.toString('utf8');
  }
  async tryDirectory(path: string): Promise<string[]> {
    const below = [...this.nodes.keys()].filter((key) => key.startsWith(`${path}/`));
    return [...new Set(below.map((key) => key.slice(path.length + 1).split('/')[0] ?? ''))];
  }
  directory(path: string): Promise<string[]> {
    return this.tryDirectory(path);
  }
  async exists(path: string): Promise<boolean> {
    return this.nodes.has(path);
  }
  async getPermissions(): Promise<Permissions> {
    return permissions('n0');
  }
  async write(path: string, value: string | Uint8Array): Promise<void> {
    this.#check(path);
    this.put(path, value);
  }
  async mkdir(path: string): Promise<void> {
    if (!this.nodes.has(path)) this.put(path, '');
  }
  async rm(path: string): Promise<void> {
    this.#check(path);
    this.drop(path);
  }
  async setPermissions(): Promise<void> {}

  async watch(path: string, listener: (path: string) => void): Promise<{ path: string; stop(): Promise<void> }> {
    const entry = { path, listener };
    this.#watches.add(entry);
    queueMicrotask(() => listener(path));
    return {
      path,
      stop: async () => {
        this.#watches.delete(entry);
      },
    };
  }
  transaction<T>(fn: (tx: StoreOperations) => Promise<T>): Promise<T> {
    return fn(this);
  }
  waitUntil(): Promise<never> {
    throw new Error('not used by the guest');
  }
  getDomainPath(): Promise<string> {
    throw new Error('not used by the guest');
  }
  isDomainIntroduced(): Promise<boolean> {
    throw new Error('not used by the guest');
  }
  async introduce(): Promise<void> {}
  async release(): Promise<void> {}
  async setTarget(): Promise<void> {}
  async resetWatches(): Promise<void> {}
  async close(): Promise<void> {}
}
