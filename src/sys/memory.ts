/**
 * Memory for bytes that are copied in large pieces. On AMD's Zen processors `rep movsb`, with which the kernel and glibc
 * before 2024 copy 4096 bytes and more, is 3 to 20 times as slow while the target begins 1 to 31 bytes behind the source,
 * both counted from the beginning of their page (measured; glibc bug 30994). Files and the kernel's own buffers begin with
 * a page, and a large block of malloc 16 bytes into one.
 */
import { loadKoffi } from './libc.js';

/** From this length on. */
const BULK_BYTES = 4096;
/** Of a cache line: what begins with one never stands so to what begins with a page. */
const LINE_BYTES = 64;
/** Where a large block begins after what malloc (glibc's and musl's) writes before it. */
const BEHIND_MALLOC = 16;

let addressOf: ((buffer: ArrayBuffer) => number) | undefined;

/** So many bytes with anything in them; from the beginning of a cache line on where that matters. */
export function alignedBytes(lengthBytes: number): Uint8Array {
  if (lengthBytes < BULK_BYTES) return new Uint8Array(lengthBytes);
  const { buffer } = Buffer.allocUnsafeSlow(lengthBytes + LINE_BYTES);
  addressOf ??= throughKoffi() ?? (() => BEHIND_MALLOC);
  return new Uint8Array(buffer, LINE_BYTES - (addressOf(buffer) % LINE_BYTES), lengthBytes);
}

/** Where in its page a block begins. Undefined without koffi. */
function throughKoffi(): ((buffer: ArrayBuffer) => number) | undefined {
  try {
    const koffi = loadKoffi();
    return (buffer) => Number(BigInt(koffi.address(buffer)) & 0xfffn);
  } catch {
    return undefined;
  }
}
