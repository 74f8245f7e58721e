/**
 * A xenstore over a map, for tests that need to look into every node and to decide when time passes. Transactions
 * conflict as C xenstored's do: on every node they looked at, found or not.
 */
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import {
  formatPermission,
  type Permissions,
  permissions,
  type Store,
  type StoreOperations,
  type TransactionOptions,
  type WaitOptions,
  type Watch,
  type WatchListener,
  XenstoreError,
} from '../../xenstore/index.js';

type Node = { value: Buffer; permissions: Permissions; generation: number };

const parentOf = (path: string): string => path.slice(0, Math.max(1, path.lastIndexOf('/')));
const join = (path: string, key: string): string => (path === '/' ? `/${key}` : `${path}/${key}`);

/** Operations on one version of the tree, with what they looked at and what they changed. */
class Tree implements StoreOperations {
  readonly touched = new Set<string>();
  readonly changed = new Set<string>();
  readonly nodes: Map<string, Node>;
  readonly #nextGeneration: () => number;

  constructor(nodes: Map<string, Node>, nextGeneration: () => number) {
    this.nodes = nodes;
    this.#nextGeneration = nextGeneration;
  }

  #find(path: string): Node | undefined {
    this.touched.add(path);
    return this.nodes.get(path);
  }

  #need(path: string): Node {
    const node = this.#find(path);
    if (node === undefined) throw new XenstoreError('ENOENT', `${path} does not exist`, { path });
    return node;
  }

  #put(path: string, node: Omit<Node, 'generation'>): void {
    this.touched.add(path);
    this.changed.add(path);
    this.nodes.set(path, { ...node, generation: this.#nextGeneration() });
  }

  #create(path: string): Node {
    const found = this.#find(path);
    if (found !== undefined) return found;
    const parent = this.#create(parentOf(path));
    this.#put(parentOf(path), parent);
    this.changed.delete(parentOf(path));
    this.#put(path, { value: Buffer.alloc(0), permissions: parent.permissions });
    return this.#need(path);
  }

  async read(path: string): Promise<Buffer> {
    return this.#need(path).value;
  }
  async readText(path: string): Promise<string> {
    return this.#need(path).value.toString();
  }
  async tryReadText(path: string): Promise<string | undefined> {
    return this.#find(path)?.value.toString();
  }
  async directory(path: string): Promise<string[]> {
    this.#need(path);
    return [...this.nodes.keys()]
      .filter((key) => key !== path && parentOf(key) === path)
      .map((key) => key.slice(join(path, '').length));
  }
  async tryDirectory(path: string): Promise<string[]> {
    return this.#find(path) === undefined ? [] : this.directory(path);
  }
  async exists(path: string): Promise<boolean> {
    return this.#find(path) !== undefined;
  }
  async getPermissions(path: string): Promise<Permissions> {
    return this.#need(path).permissions;
  }
  async write(path: string, value: string | Uint8Array): Promise<void> {
    this.#put(path, { ...this.#create(path), value: Buffer.from(value) });
  }
  async mkdir(path: string): Promise<void> {
    this.#create(path);
  }
  async rm(path: string): Promise<void> {
    this.#need(parentOf(path));
    if (this.#find(path) === undefined) return;
    for (const key of [...this.nodes.keys()].filter((key) => key === path || key.startsWith(`${path}/`))) {
      this.nodes.delete(key);
      this.touched.add(key);
      this.changed.add(key);
    }
    const parent = this.nodes.get(parentOf(path));
    if (parent !== undefined) parent.generation = this.#nextGeneration();
  }
  async setPermissions(path: string, wanted: Permissions): Promise<void> {
    this.#put(path, { ...this.#need(path), permissions: wanted });
  }
}

export class MemoryStore implements Store {
  #nodes = new Map<string, Node>([['/', { value: Buffer.alloc(0), permissions: permissions('n0'), generation: 0 }]]);
  #generation = 1;
  readonly #watches = new Set<{ path: string; listener: WatchListener }>();
  readonly #clock: Clock;
  readonly introduced = new Set<number>();
  conflicts = 0;
  /** Called before each commit; what it does is seen as another client's doing. */
  beforeCommit: (() => Promise<void>) | undefined;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  readonly #bump = (): number => this.#generation++;

  async #direct<T>(fn: (tree: Tree) => Promise<T>): Promise<T> {
    const tree = new Tree(this.#nodes, this.#bump);
    const result = await fn(tree);
    this.#fire(tree.changed);
    return result;
  }

  #fire(paths: ReadonlySet<string>): void {
    for (const path of paths) {
      for (const watch of this.#watches) {
        if (path === watch.path || path.startsWith(`${watch.path}/`) || watch.path.startsWith(`${path}/`)) {
          setImmediate(() => this.#watches.has(watch) && watch.listener(path));
        }
      }
    }
  }

  read = (path: string): Promise<Buffer> => this.#direct((tree) => tree.read(path));
  readText = (path: string): Promise<string> => this.#direct((tree) => tree.readText(path));
  tryReadText = (path: string): Promise<string | undefined> => this.#direct((tree) => tree.tryReadText(path));
  directory = (path: string): Promise<string[]> => this.#direct((tree) => tree.directory(path));
  tryDirectory = (path: string): Promise<string[]> => this.#direct((tree) => tree.tryDirectory(path));
  exists = (path: string): Promise<boolean> => this.#direct((tree) => tree.exists(path));
  getPermissions = (path: string): Promise<Permissions> => this.#direct((tree) => tree.getPermissions(path));
  write = (path: string, value: string | Uint8Array): Promise<void> => this.#direct((tree) => tree.write(path, value));
  mkdir = (path: string): Promise<void> => this.#direct((tree) => tree.mkdir(path));
  rm = (path: string): Promise<void> => this.#direct((tree) => tree.rm(path));
  setPermissions = (path: string, wanted: Permissions): Promise<void> =>
    this.#direct((tree) => tree.setPermissions(path, wanted));

  async watch(path: string, listener: WatchListener): Promise<Watch> {
    const watch = { path, listener };
    this.#watches.add(watch);
    setImmediate(() => this.#watches.has(watch) && listener(path));
    return { path, stop: async () => void this.#watches.delete(watch) };
  }

  async transaction<T>(
    fn: (tx: StoreOperations) => Promise<T>,
    { maxTries = 100 }: TransactionOptions = {},
  ): Promise<T> {
    for (let attempt = 0; attempt < maxTries; attempt++) {
      const start = this.#nodes;
      const before = new Map([...start].map(([path, node]) => [path, node.generation]));
      const tree = new Tree(new Map([...start].map(([path, node]) => [path, { ...node }])), this.#bump);
      // Lets other clients in between, as a socket would.
      await new Promise(setImmediate);
      const result = await fn(tree);
      await this.beforeCommit?.();
      const conflict = [...tree.touched].some((path) => this.#nodes.get(path)?.generation !== before.get(path));
      if (!conflict) {
        for (const path of tree.touched) {
          const node = tree.nodes.get(path);
          if (node === undefined) this.#nodes.delete(path);
          else this.#nodes.set(path, node);
        }
        this.#fire(tree.changed);
        return result;
      }
      this.conflicts++;
    }
    throw new XenstoreError('conflict', `the transaction lost against other writers ${maxTries} times`);
  }

  async waitUntil<T>(fn: (store: StoreOperations) => Promise<T | undefined | false>, options: WaitOptions): Promise<T> {
    return new Promise<T>((settle, fail) => {
      const stops: Watch[] = [];
      const end = (finish: () => void): void => {
        timer.cancel();
        for (const watch of stops) void watch.stop();
        finish();
      };
      const timer = this.#clock.after(options.timeoutMs, () =>
        end(() => fail(new XenstoreError('timeout', `${options.what}: not within ${options.timeoutMs} ms`))),
      );
      const look = (): void => {
        fn(this).then(
          (result) => result !== undefined && result !== false && end(() => settle(result)),
          (error) => end(() => fail(error)),
        );
      };
      for (const path of options.paths) void this.watch(path, look).then((watch) => stops.push(watch));
      look();
    });
  }

  async getDomainPath(domid: number): Promise<string> {
    return `/local/domain/${domid}`;
  }
  async isDomainIntroduced(domid: number): Promise<boolean> {
    return this.introduced.has(domid);
  }
  async introduce(domid: number): Promise<void> {
    this.introduced.add(domid);
  }
  async release(domid: number): Promise<void> {
    this.introduced.delete(domid);
  }
  async setTarget(): Promise<void> {}
  async resetWatches(): Promise<void> {
    this.#watches.clear();
  }
  async close(): Promise<void> {
    this.#watches.clear();
  }

  /** The whole tree, as `xenstore-ls -fp /` prints it. */
  dump(): string[] {
    return [...this.#nodes]
      .filter(([path]) => path !== '/')
      .map(
        ([path, node]) =>
          `${path} = "${node.value.toString()}"   (${node.permissions.map(formatPermission).join(',')})`,
      )
      .sort();
  }
}
