/**
 * The operations of a store as requests and answers: encodes arguments, meets limits before anything is sent, decodes
 * replies. Works the same inside and outside a transaction; does not know how a request travels.
 * Payload formats: xen:docs/misc/xenstore.txt.
 */
import { isXenstoreError, XenstoreError } from '../errors.js';
import type { StoreOperations } from '../operations.js';
import { checkPath } from '../path.js';
import { formatPermission, type Permissions, permissions } from '../permissions.js';
import { Op, type OpNumber } from '../wire.js';
import { readLongDirectory } from './directory.js';
import type { Transport } from './transport.js';

/** DOMID_ANY: stands for every domain in a permission list (Xen >= 4.22). */
const DOMID_ANY = 0x7ff5;

export abstract class RequestOperations implements StoreOperations {
  /** Sends a request and returns the payload of its answer. */
  protected abstract ask(type: OpNumber, payload: Buffer, path?: string): Promise<Buffer>;
  /** Longest payload that the transport takes. */
  protected abstract get maxPayloadBytes(): number;
  protected abstract get transportKind(): Transport['kind'];

  async read(path: string): Promise<Buffer> {
    // A copy: the answer is a view of a received chunk, which a kept value would keep alive.
    return Buffer.from(await this.#askAbout(Op.Read, path));
  }

  async readText(path: string): Promise<string> {
    return (await this.#askAbout(Op.Read, path)).toString('utf8');
  }

  async tryReadText(path: string): Promise<string | undefined> {
    return orAbsent(this.readText(path), undefined);
  }

  async directory(path: string): Promise<string[]> {
    try {
      return splitStrings(await this.#askAbout(Op.Directory, path));
    } catch (error) {
      if (!isXenstoreError(error, 'E2BIG')) throw error;
      const ask = (offset: number): Promise<Buffer> => this.ask(Op.DirectoryPart, strings(path, String(offset)), path);
      return readLongDirectory(path, ask, error);
    }
  }

  async tryDirectory(path: string): Promise<string[]> {
    return orAbsent(this.directory(path), []);
  }

  async exists(path: string): Promise<boolean> {
    return orAbsent(
      this.#askAbout(Op.Read, path).then(() => true),
      false,
    );
  }

  async getPermissions(path: string): Promise<Permissions> {
    const texts = splitStrings(await this.#askAbout(Op.GetPerms, path));
    const [owner, ...others] = texts;
    try {
      if (owner !== undefined) return permissions(owner, ...others);
    } catch (cause) {
      throw new XenstoreError('protocol', `xenstored sent permissions of '${path}' that are none`, { path, cause });
    }
    throw new XenstoreError('protocol', `xenstored sent an empty permission list of '${path}'`, { path });
  }

  async write(path: string, value: string | Uint8Array): Promise<void> {
    checkPath(path);
    const valueBytes = typeof value === 'string' ? Buffer.byteLength(value) : value.length;
    const bytes = path.length + 1 + valueBytes;
    if (bytes > this.maxPayloadBytes) {
      throw new XenstoreError(
        'E2BIG',
        `a value of ${valueBytes} bytes does not fit at '${path.slice(0, 80)}': path and value take ${bytes} bytes, limit ${this.maxPayloadBytes}`,
        { path },
      );
    }
    const payload = Buffer.allocUnsafe(bytes);
    payload.write(path, 0, 'latin1');
    payload[path.length] = 0;
    if (typeof value === 'string') payload.write(value, path.length + 1, 'utf8');
    else payload.set(value, path.length + 1);
    await this.ask(Op.Write, payload, path);
  }

  async mkdir(path: string): Promise<void> {
    await this.#askAbout(Op.Mkdir, path);
  }

  async rm(path: string): Promise<void> {
    await this.#askAbout(Op.Rm, path);
  }

  async setPermissions(path: string, list: Permissions): Promise<void> {
    checkPath(path);
    // C xenstored follows a null pointer when a *socket* names DOMID_ANY (xen:tools/xenstored/domain.c,
    // domain_alloc_permrefs): a request that could end the daemon, and with it the host, is not sent.
    if (this.transportKind === 'socket' && list.some(({ domid }) => domid === DOMID_ANY)) {
      throw new XenstoreError(
        'EINVAL',
        `permissions of '${path}' name domain ${DOMID_ANY}, which can crash xenstored`,
        {
          path,
        },
      );
    }
    const payload = strings(path, ...list.map(formatPermission));
    this.checkPayload(payload, path);
    await this.ask(Op.SetPerms, payload, path);
  }

  /** Throws E2BIG when the payload cannot be sent. */
  protected checkPayload(payload: Buffer, path?: string): void {
    if (payload.length <= this.maxPayloadBytes) return;
    throw new XenstoreError('E2BIG', `xenstore request of ${payload.length} bytes, limit ${this.maxPayloadBytes}`, {
      ...(path === undefined ? {} : { path }),
    });
  }

  #askAbout(type: OpNumber, path: string): Promise<Buffer> {
    checkPath(path);
    return this.ask(type, Buffer.from(`${path}\0`, 'latin1'), path);
  }
}

/** The strings with a NUL after each: most payloads. */
export function strings(...texts: readonly string[]): Buffer {
  return Buffer.from(`${texts.join('\0')}\0`, 'utf8');
}

/** The inverse of `strings`; an empty payload holds none. */
export function splitStrings(payload: Buffer): string[] {
  if (payload.length === 0) return [];
  const end = payload[payload.length - 1] === 0 ? payload.length - 1 : payload.length;
  return payload.toString('utf8', 0, end).split('\0');
}

async function orAbsent<T>(answer: Promise<T>, absent: T): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (isXenstoreError(error, 'ENOENT')) return absent;
    throw error;
  }
}
