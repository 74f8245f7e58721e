/** Randomness that can be repeated: everything follows from one number. */

/** Numbers in [0, 1); mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Cuts a message into pieces: sometimes each byte alone, else at a few places. */
export function randomSplit(seed: number): (bytes: Buffer) => Buffer[] {
  const random = seededRandom(seed);
  return (bytes) => {
    const most = random() < 0.2 ? 1 : Math.max(1, bytes.length);
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, 1 + Math.floor(random() * most));
      pieces.push(bytes.subarray(at, at + length));
      at += length;
    }
    return pieces;
  };
}
