/**
 * All that the daemon reads and writes in xenstore for one channel. Writes only into directories that exist, in one
 * step with looking whether they do: a write would create what a guest or the toolstack has just removed.
 */
import { isXenstoreError, type Store, type StoreOperations } from '../../xenstore/index.js';
import {
  backendPath,
  type ChannelAddress,
  frontendPath,
  KEY,
  NONCE_PATTERN,
  permissionSets,
} from '../console/layout.js';
import { formatXenbusState, parseXenbusState, type XenbusState } from '../console/xenbus-state.js';
import { readDomainUuid } from './discovery.js';
import { type FrontendSight, parseU32 } from './handshake.js';

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

  /** State, ring and port of one moment, and whose domain it is. */
  readOffer(): Promise<RingOffer> {
    return this.#store.transaction(async (tx) => {
      const [state, ringRefText, portText, uuid] = await Promise.all([
        lookAtGuest(tx, `${this.frontend}/state`),
        lookAtGuest(tx, `${this.frontend}/ring-ref`),
        lookAtGuest(tx, `${this.frontend}/port`),
        readDomainUuid(tx, this.#address.domid),
      ]);
      const ringRef = parseU32(ringRefText);
      return { frontend: sightOf(state), uuid, ringRefText, portText, ringRef, port: parseU32(portText) };
    });
  }

  /** False when the backend directory is gone. */
  writeState(state: XenbusState): Promise<boolean> {
    return this.#store.transaction(async (tx) => {
      const path = `${this.backend}/state`;
      if ((await tx.tryReadText(path)) === undefined) return false;
      await tx.write(path, formatXenbusState(state));
      return true;
    });
  }

  /** Tells the guest whether a host client is connected, in a key it can read and not write. False: no frontend. */
  writeHostOpen(open: boolean): Promise<boolean> {
    return this.#store.transaction(async (tx) => {
      if (!(await tx.exists(this.frontend))) return false;
      const path = `${this.frontend}/${KEY.hostOpen}`;
      await tx.write(path, open ? '1' : '0');
      await tx.setPermissions(path, permissionSets(this.#address).readOnly);
      return true;
    });
  }

  /** Takes the guest's question: it is gone from the store when this returns, so no later daemon answers it again. */
  takeNonce(): Promise<Nonce> {
    const path = `${this.frontend}/${KEY.identify}`;
    return this.#store.transaction(async (tx): Promise<Nonce> => {
      const text = await lookAtGuest(tx, path);
      if (text === undefined) return { kind: 'none' };
      await tx.rm(path);
      return NONCE_PATTERN.test(text) ? { kind: 'nonce', nonce: text } : { kind: 'malformed' };
    });
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
