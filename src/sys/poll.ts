/**
 * Watches a descriptor in the event loop: eventfds, PTY masters, Xen devices. The one place that knows the traps of
 * koffi's poll handle: it stops silently when it is garbage-collected, starting it after close ends the process, and
 * so does a descriptor that epoll refuses (a regular file).
 */
import { loadKoffi } from './libc.js';

export interface PollEvents {
  readonly readable: boolean;
  readonly writable: boolean;
  /** The other side has hung up; level-triggered, so stop or close at once. */
  readonly disconnect: boolean;
}

export interface PollInterest {
  readonly readable?: boolean;
  readonly writable?: boolean;
  readonly disconnect?: boolean;
}

export interface DescriptorPoll {
  /** Changes what is waited for; nothing at all pauses. After `close` it does nothing. */
  want(interest: PollInterest): void;
  /** Ends the poll; the descriptor itself stays open and may be closed by its owner afterwards. */
  close(): void;
}

/** Strong references: a collected handle would stop without a word. */
const alive = new Set<object>();

type RawHandle = { start(options: PollInterest, callback: RawCallback): void; stop(): void; close(): void };
type RawCallback = (status: number, events: { readable?: boolean; writable?: boolean; disconnect?: boolean }) => void;
type RawPoll = (fd: number, options: PollInterest, callback: RawCallback) => RawHandle;

/** `fd` must be something epoll accepts. `onEvents` gets a negative status as `disconnect`. */
export function pollDescriptor(
  fd: number,
  interest: PollInterest,
  onEvents: (events: PollEvents) => void,
): DescriptorPoll {
  const raw = (loadKoffi() as unknown as { node: { poll: RawPoll } }).node.poll;
  let closed = false;
  const callback: RawCallback = (status, events) => {
    if (closed) return;
    onEvents({
      readable: events?.readable === true,
      writable: events?.writable === true,
      disconnect: status < 0 || events?.disconnect === true,
    });
  };
  const handle = raw(fd, interest, callback);
  alive.add(handle);
  return {
    want(next) {
      if (closed) return;
      handle.stop();
      if (next.readable || next.writable || next.disconnect) handle.start(next, callback);
    },
    close() {
      if (closed) return;
      closed = true;
      handle.close();
      alive.delete(handle);
    },
  };
}
