/**
 * What a backend needs of a hypervisor: to map pages that a domain grants, and event channels to ring.
 * Two implementations: simulated.ts and xen.ts. Nothing here knows what a console is.
 */

/** A page of another domain, mapped. After `release` it must not be touched any more. */
export interface GrantedPage {
  /** The 4096 bytes. */
  readonly bytes: Uint8Array;
  /** The same page as 1024 signed words. How to load and store indices in it: src/console/indices.ts. */
  readonly words: Int32Array;
  /** Unmaps. A second call does nothing. */
  release(): void;
}

export interface GrantMapper {
  /** Maps one page for reading and writing. Throws ChannelError `grant-unmappable`. */
  map(domid: number, grantReference: number): GrantedPage;
}

/** Our end of an event channel that is bound to a port of another domain. */
export interface BoundPort {
  /** Rings the other side. Never re-enters the caller's own `onEvent`. */
  notify(): void;
  /**
   * Allows the next event. Between delivery and this call no further event is delivered (the kernel masks the port);
   * one that came meanwhile is delivered after it.
   */
  unmask(): void;
  /** Unbinds. A second call does nothing; no event is delivered afterwards. */
  close(): void;
}

export interface EventChannels {
  /**
   * Binds to a port that `domid` left unbound for us. One event is delivered soon after binding, whatever happened
   * before: "look at the ring". Throws ChannelError `port-unbindable`, in particular when somebody serves it already.
   */
  bind(domid: number, remotePort: number, onEvent: () => void): BoundPort;
}

/** The rights of one backend process. */
export interface Hypervisor {
  readonly grants: GrantMapper;
  readonly events: EventChannels;
  /** Gives everything back. */
  close(): void;
}
