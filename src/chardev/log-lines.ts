/**
 * Puts a time in front of each line, wherever the pieces are cut. Knows no file.
 */

export const NEWLINE = 0x0a;
/** `[2026-01-02T03:04:05.678Z] ` */
export const PREFIX_BYTES = 27;

export interface RenderedLines {
  readonly bytes: Buffer;
  /** How many bytes of the source are in it. */
  readonly taken: number;
  /** Whether the next byte begins a line. */
  readonly atLineStart: boolean;
}

/** As much of `source` as fits into `room` bytes with its times. Nothing when not even one byte does. */
export function renderLines(source: Uint8Array, atLineStart: boolean, nowMs: number, room: number): RenderedLines {
  const prefix = Buffer.from(`[${new Date(nowMs).toISOString()}] `, 'latin1');
  const pieces: Uint8Array[] = [];
  let size = 0;
  let taken = 0;
  let fresh = atLineStart;
  while (taken < source.length) {
    const left = room - size - (fresh ? PREFIX_BYTES : 0);
    if (left <= 0) break;
    const end = source.indexOf(NEWLINE, taken);
    // A line that does not fit any more comes whole in the next batch.
    if (fresh && taken > 0 && end !== -1 && end + 1 - taken > left) break;
    if (fresh) pieces.push(prefix);
    const line = source.subarray(taken, Math.min(end === -1 ? source.length : end + 1, taken + left));
    pieces.push(line);
    size += line.length + (fresh ? PREFIX_BYTES : 0);
    taken += line.length;
    fresh = line.at(-1) === NEWLINE;
  }
  // A copy in any case: the source may change while this is being written.
  return { bytes: Buffer.concat(pieces, size), taken, atLineStart: fresh };
}
