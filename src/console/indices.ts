/**
 * The free-running 32-bit indices in a shared page, which another processor changes meanwhile. Their order to the bytes of
 * the ring is what the protocol rests on (xen:xen/include/public/io/console.h): an index is loaded before the bytes it
 * speaks of, and stored after them.
 */

/**
 * Processors of the x86 family keep the order of loads, of stores, and of a load and a later store; V8 keeps that of the
 * program and makes one access of one. So a plain access does there what Atomics does for this protocol, and Atomics are calls
 * that cost ten times as much (13 ns against 1; a turn of the ring has five to eight). Others, as Arm, need them. Neither
 * side relies on a store being seen before its own next load: whoever has moved anything rings, and that is a full barrier.
 *
 * What a hostile guest stores is a number of ours once it is loaded, and any number finds a bound at the end of an array.
 */
const KEEPS_ORDER = process.arch === 'x64' || process.arch === 'ia32';

/**
 * One load. It may be as old as the last call into anything: who waits for a change without a call looks with `watchIndex`.
 * Throws TypeError when the page is not mapped any more.
 */
export function loadIndex(words: Int32Array, at: number): number {
  if (!KEEPS_ORDER) return Atomics.load(words, at);
  const index = words[at];
  if (index === undefined) throw new TypeError('the page is not mapped any more');
  return index;
}

/** Publishes it, and with it the bytes that were moved before. */
export function storeIndex(words: Int32Array, at: number, index: number): void {
  if (KEEPS_ORDER) words[at] = index;
  else Atomics.store(words, at, index);
}

/** A load that an engine may not leave out, however often it is repeated. */
export function watchIndex(words: Int32Array, at: number): number {
  return Atomics.load(words, at);
}

/**
 * Bytes between two free-running counters; the subtraction must wrap at 2^32. The counters may be signed, as they stand in
 * the page: the engine has small integers only for those.
 */
export function indexDistance(producer: number, consumer: number): number {
  return (producer - consumer) >>> 0;
}
