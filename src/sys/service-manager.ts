/**
 * What a service and its manager (systemd) tell each other: sockets that were opened for us, and that we are ready. The
 * two protocols are stable and small: sd_listen_fds(3), sd_notify(3).
 */
import { loadKoffi } from './libc.js';

const FIRST_DESCRIPTOR = 3;
/** No unit of ours has more. */
const MAX_DESCRIPTORS = 16;
const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_NOSIGNAL = 0x4000;
/** sun_path. */
const MAX_PATH_BYTES = 108;

/** The descriptors that were passed to this very process, in order. */
export function inheritedSockets(env: NodeJS.ProcessEnv, pid: number): number[] {
  const { LISTEN_PID, LISTEN_FDS } = env;
  if (LISTEN_PID !== String(pid) || LISTEN_FDS === undefined || !/^[0-9]{1,4}$/.test(LISTEN_FDS)) return [];
  return Array.from({ length: Math.min(Number(LISTEN_FDS), MAX_DESCRIPTORS) }, (_, index) => FIRST_DESCRIPTOR + index);
}

/** Tells the manager, as `READY=1`. False: there is none, or it cannot be told; a service goes on all the same. */
export function notifyManager(env: NodeJS.ProcessEnv, state: string): boolean {
  const address = notifyAddress(env['NOTIFY_SOCKET']);
  if (address === undefined) return false;
  try {
    const libc = loadKoffi().load('libc.so.6');
    const socket = libc.func('int socket(int domain, int type, int protocol)');
    const sendto = libc.func(
      'int64_t sendto(int fd, const void *bytes, size_t length, int flags, const void *address, uint size)',
    );
    const close = libc.func('int close(int fd)');
    const fd = Number(socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0));
    if (fd < 0) return false;
    const bytes = Buffer.from(state);
    const sent = Number(sendto(fd, bytes, bytes.length, MSG_NOSIGNAL, address, address.length));
    close(fd);
    return sent === bytes.length;
  } catch {
    return false;
  }
}

/** A sockaddr_un; `@` begins a name in the abstract space, which starts with a NUL. */
function notifyAddress(name: string | undefined): Buffer | undefined {
  if (name === undefined || !/^[/@]./.test(name)) return undefined;
  const path = Buffer.from(name);
  if (path.length >= MAX_PATH_BYTES) return undefined;
  const abstract = path[0] === 0x40;
  if (abstract) path[0] = 0;
  const family = Buffer.alloc(2);
  // In the order of the machine; all that Xen runs on are little-endian.
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, path, ...(abstract ? [] : [Buffer.alloc(1)])]);
}
