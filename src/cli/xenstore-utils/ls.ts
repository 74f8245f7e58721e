/**
 * `xenstore ls`: the tree below a path, one node per line, cut to the terminal. Strings are latin-1.
 * Source: xen:tools/xenstore/xenstore_client.c (do_ls).
 */
import { type Complain, Failure, strerror } from './failure.js';
import type { StoreRequests } from './requests.js';
import { escaped } from './values.js';

export interface LsOptions {
  readonly wholePaths: boolean;
  readonly permissions: boolean;
  /** Of the terminal; undefined where there is none. */
  readonly columns: number | undefined;
}

/** What is there around a value: ` = "..."`. */
const TAG_WIDTH = 8;
const DEFAULT_WIDTH = 80;
/** Permissions stand in this column if there is room. */
const PERMISSIONS_COLUMN = 60;

export class Lister {
  readonly #store: StoreRequests;
  readonly #options: LsOptions;
  readonly #print: (text: string) => void;
  readonly #complain: Complain;
  /** What is as wide as this is cut. A terminal that says it has no columns has no limit, either. */
  readonly #maxWidth: number;

  constructor(store: StoreRequests, options: LsOptions, print: (text: string) => void, complain: Complain) {
    this.#store = store;
    this.#options = options;
    this.#print = print;
    this.#complain = complain;
    this.#maxWidth = options.columns === undefined ? DEFAULT_WIDTH : options.columns - 2;
    if (options.wholePaths) this.#maxWidth = Number.MAX_SAFE_INTEGER;
  }

  async list(path: string, depth = 0): Promise<void> {
    const names = await this.#store.directory(path).catch((error: unknown) => {
      throw new Failure(`xs_directory (${path}): ${strerror(error)}`);
    });
    for (const name of names) {
      const child = `${path}${path.endsWith('/') ? '' : '/'}${name}`;
      await this.#show(child, name, depth);
      await this.list(child, depth + 1);
    }
  }

  async #show(path: string, name: string, depth: number): Promise<void> {
    const { wholePaths, permissions } = this.#options;
    const [value, access] = await Promise.allSettled([
      this.#store.read(path),
      permissions ? this.#store.permissions(path) : '',
    ]);
    const label = wholePaths ? path : ' '.repeat(depth) + this.#cut(name, depth);
    let line = label + this.#valueText(wholePaths ? 0 : label.length, value);
    if (permissions) {
      if (access.status === 'fulfilled') line += `  (${access.value})`;
      else this.#complain(`\ncould not access permissions for ${name}: ${strerror(access.reason)}`);
    }
    this.#print(`${line}\n`);
  }

  #valueText(width: number, value: PromiseSettledResult<string>): string {
    if (value.status === 'rejected') return ':\n';
    const shown = escaped(value.value);
    // Negative limits are huge ones: they are compared as unsigned numbers.
    if (this.#maxWidth >= 0 && this.#maxWidth < width + value.value.length + TAG_WIDTH) {
      return ` = "${this.#cut(shown, width)}\\..."`;
    }
    const text = ` = "${shown}"`;
    return this.#options.permissions ? `${text} ${this.#dots(width + text.length + 1)}` : text;
  }

  #dots(from: number): string {
    const end = this.#options.wholePaths ? 0 : Math.min(PERMISSIONS_COLUMN, this.#maxWidth);
    let dots = '';
    for (let column = from; column < end; column++) dots += column & 1 ? '.' : ' ';
    return dots;
  }

  /** As printf("%.*s"), for which a negative precision is none. */
  #cut(text: string, before: number): string {
    const precision = this.#maxWidth - TAG_WIDTH - before;
    return precision < 0 ? text : text.slice(0, precision);
  }
}
