/**
 * How many bytes wait in a terminal, without reading one of them. The one thing here that Node cannot ask; where koffi
 * is not installed the answer is "unknown", never an error.
 */
import { loadKoffi } from './libc.js';

/** FIONREAD where Xen runs: x86, Arm and RISC-V (linux:include/uapi/asm-generic/ioctls.h). */
const FIONREAD = 0x541b;
const GENERIC_IOCTLS: ReadonlySet<string> = new Set(['x64', 'ia32', 'arm64', 'arm', 'riscv64']);

type Ioctl = (fd: number, request: number, count: Int32Array) => number;
let ioctl: Ioctl | null | undefined;

function loadIoctl(): Ioctl | null {
  if (!GENERIC_IOCTLS.has(process.arch)) return null;
  try {
    const libc = loadKoffi().load(null);
    return libc.func('int ioctl(int fd, ulong request, _Out_ int *count)') as unknown as Ioctl;
  } catch {
    return null;
  }
}

/** undefined if it cannot be known. */
export function waitingBytes(fd: number): number | undefined {
  if (ioctl === undefined) ioctl = loadIoctl();
  if (ioctl === null) return undefined;
  const count = new Int32Array(1);
  return ioctl(fd, FIONREAD, count) === 0 ? count[0] : undefined;
}
