/**
 * All that the daemon reads and writes in xenstore for one channel. Writes only into directories that exist, in one
 * step with looking whether they do: a write would create what a guest or the toolstack has just removed.
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store, StoreOperations } from '../../xenstore/index.js';
import {
  backendPath,
  type ChannelAddress,
  frontendPath,
  KEY,
  NONCE_PATTERN,
  permissionSets,
} from '../console/layout.js';
import { parseU32 } from '../console/u32.js';
import { formatXenbusState, parseXenbusState, type XenbusState } from '../console/xenbus-state.js';
import { readDomainUuid } from './discovery.js';
import type { FrontendSight } from './handshake.js';

/** One look at both ends. */
export interface Sight {
  readonly backendPresent: boolean;
  /** The toolstack wants the channel to be there. */
  readonly online: boolean;
  readonly backendState: XenbusState | undefined;
  readonly frontend: FrontendSight;
  /** The frontend's state as written. */
  readonly stateText: string | undefined;
  /** What the guest claims, as written. */
  readonly guestOpen: string | undefined;
  readonly asksIdentity: boolean;
}

/** What a frontend offers, as written and as understood. */
export interface RingOffer {
  readonly frontend: FrontendSight;
  readonly uuid: string | undefined;
  readonly ringRefText: string | undefined;
  readonly portText: string | undefined;
  readonly ringRef: number | undefined;
  readonly port: number | undefined;
}

export type Nonce =
  | { readonly kind: 'none' }
  | { readonly kind: 'malformed' }
  | { kind: 'nonce'; readonly nonce: string };

/** A guest connects once; one that changes its offer while it is read is read again so often. */
const MAX_OFFER_TRIES = 3;

/** Gives up a transaction: what it was to change is not there. */
class Absent extends Error {}

export class ChannelNodes {
  readonly frontend: string;
  readonly backend: string;
  readonly #store: Store;
  readonly #address: ChannelAddress;

  constructor(store: Store, address: ChannelAddress) {
    this.#store = store;
    this.#address = address;
    this.frontend = frontendPath(address.domid, address.deviceId);
    this.backend = backendPath(address);
  }

  async look(): Promise<Sight> {
    const [online, backendState, state, guestOpen, nonce] = await Promise.all([
      this.#store.tryReadText(`${this.backend}/online`),
      this.#store.tryReadText(`${this.backend}/state`),
      lookAtGuest(this.#store, `${this.frontend}/state`),
      lookAtGuest(this.#store, `${this.frontend}/${KEY.guestOpen}`),
      lookAtGuest(this.#store, `${this.frontend}/${KEY.identify}`),
    ]);
    return {
      backendPresent: online !== undefined || backendState !== undefined,
      online: online === '1',
      backendState: parseXenbusState(backendState),
      frontend: sightOf(state),
      stateText: state,
      guestOpen,
      asksIdentity: nonce !== undefined,
    };
  }

  /**
   * State, ring and port of one moment, and whose domain it is. In place of a transaction, which takes three round trips
   * with a guest waiting, all is read in one batch, ring and port twice: what did not change in between belongs together.
   */
  async readOffer(): Promise<RingOffer> {
    const store = this.#store;
    const ring = (): Promise<string | undefined>[] =>
      ['ring-ref', 'port'].map((key) => lookAtGuest(store, `${this.frontend}/${key}`));
    for (let tries = 1; ; tries++) {
      const [before, state, uuid, [ringRefText, portText]] = await Promise.all([
        Promise.all(ring()),
        lookAtGuest(store, `${this.frontend}/state`),
        readDomainUuid(store, this.#address.domid),
        Promise.all(ring()),
      ]);
      const steady = before[0] === ringRefText && before[1] === portText;
      // A guest that goes on changing them gets what it deserves: a pair that does not fit cannot be bound.
      if (!steady && tries < MAX_OFFER_TRIES) continue;
      const ringRef = parseU32(ringRefText);
      return { frontend: sightOf(state), uuid, ringRefText, portText, ringRef, port: parseU32(portText) };
    }
  }

  /** False when the backend directory is gone. */
  writeState(state: XenbusState): Promise<boolean> {
    const path = `${this.backend}/state`;
    return this.#writeIfThere(path, (tx) => [tx.write(path, formatXenbusState(state))]);
  }

  /** Tells the guest whether a host client is connected, in a key it can read and not write. False: no frontend. */
  writeHostOpen(open: boolean): Promise<boolean> {
    const path = `${this.frontend}/${KEY.hostOpen}`;
    return this.#writeIfThere(this.frontend, (tx) => [
      tx.write(path, open ? '1' : '0'),
      tx.setPermissions(path, permissionSets(this.#address).readOnly),
    ]);
  }

  /** Which terminal serves the channel, in libxl's own key, which the guest can read and not write. False: no frontend. */
  writeTty(tty: string): Promise<boolean> {
    return this.#store.transaction(async (tx) => {
      if (!(await tx.exists(this.frontend))) return false;
      const path = `${this.frontend}/tty`;
      await tx.write(path, tty);
      await tx.setPermissions(path, permissionSets(this.#address).readOnly);
      return true;
    });
  }

  /** Takes the guest's question: it is gone from the store when this returns, so no later daemon answers it again. */
  takeNonce(): Promise<Nonce> {
    const path = `${this.frontend}/${KEY.identify}`;
    return this.#store.transaction(async (tx): Promise<Nonce> => {
      // Both at once: to remove what is not there does no harm.
      const [text] = await Promise.all([lookAtGuest(tx, path), removeIfThere(tx, path)]);
      if (text === undefined) return { kind: 'none' };
      return NONCE_PATTERN.test(text) ? { kind: 'nonce', nonce: text } : { kind: 'malformed' };
    });
  }

  /**
   * Writes if `path` is there, in one step. The question and what hangs on it are sent together: if the answer is no,
   * the transaction is given up, and nothing was written.
   */
  async #writeIfThere(path: string, write: (tx: StoreOperations) => Promise<void>[]): Promise<boolean> {
    try {
      await this.#store.transaction(async (tx) => {
        const there = tx.exists(path);
        const written = Promise.all(write(tx));
        written.catch(() => {}); // of no interest where nothing is there
        if (!(await there)) throw new Absent();
        await written;
      });
      return true;
    } catch (error) {
      if (error instanceof Absent) return false;
      throw error;
    }
  }
}

async function removeIfThere(tx: StoreOperations, path: string): Promise<void> {
  try {
    await tx.rm(path);
  } catch (error) {
    if (!isXenstoreError(error, 'ENOENT')) throw error;
  }
}

/** Without a state there is no frontend, as QEMU has it, too. */
function sightOf(state: string | undefined): FrontendSight {
  return state === undefined ? 'gone' : (parseXenbusState(state) ?? 'invalid');
}

/** A guest may also take our right to read away: that is the same as removing it. */
async function lookAtGuest(store: StoreOperations, path: string): Promise<string | undefined> {
  try {
    return await store.tryReadText(path);
  } catch (error) {
    if (isXenstoreError(error, 'EACCES')) return undefined;
    throw error;
  }
}
