/** The part of a store that the clients of a stress run may reach, as a map of paths. Knows no daemon. */

type Node = { value: string; readonly owner: number };
/** All of the store that clients may reach. */
export class Model {
  readonly nodes: Map<string, Node>;
  readonly #creatorOwns: boolean;

  constructor(creatorOwns: boolean, nodes: Map<string, Node> = new Map()) {
    this.#creatorOwns = creatorOwns;
    this.nodes = nodes;
  }

  copy(): Model {
    return new Model(this.#creatorOwns, new Map([...this.nodes].map(([path, node]) => [path, { ...node }])));
  }

  write(path: string, value: string, domid: number): void {
    const known = this.nodes.get(path);
    if (known !== undefined) known.value = value;
    else this.nodes.set(path, { value, owner: this.#ownerBelow(path, domid) });
  }

  #ownerBelow(path: string, domid: number): number {
    const parent = path.slice(0, path.lastIndexOf('/'));
    if (!this.nodes.has(parent)) this.write(parent, '', domid);
    return domid !== 0 && this.#creatorOwns ? domid : (this.nodes.get(parent)?.owner ?? 0);
  }

  remove(path: string): void {
    for (const other of [...this.nodes.keys()]) {
      if (other === path || other.startsWith(`${path}/`)) this.nodes.delete(other);
    }
  }

  list(path: string): string | undefined {
    if (!this.nodes.has(path)) return undefined;
    const names = [...this.nodes.keys()].filter((other) => other.slice(0, other.lastIndexOf('/')) === path);
    return names
      .map((other) => other.slice(path.length + 1))
      .sort()
      .join(' ');
  }

  forget(domid: number): void {
    for (const [path, { owner }] of [...this.nodes]) if (owner === domid) this.remove(path);
  }
}
