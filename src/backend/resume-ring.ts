/**
 * Finds where in a ring to go on, after a daemon that was killed: what is in the spool already must not be taken again.
 * Pure, apart from the index it publishes.
 */
import type { SpoolQueue } from '../chardev/spool.js';
import type { SourceMark } from '../chardev/spool-header.js';
import { type BackendRing, OUT_BYTES } from '../console/ring.js';

export interface Resumed {
  /** In the spool, but not given back to the guest when the daemon died. */
  readonly skippedBytes: number;
  /** Somebody else has taken them: they are in nobody's spool. */
  readonly missedBytes: number;
}

const NOTHING: Resumed = { skippedBytes: 0, missedBytes: 0 };

/**
 * `expected`: the ring that the dead daemon served, and its position behind the newest byte of the spool. A grant
 * reference and a port may belong to another ring by now, so the bytes themselves must agree before any is skipped.
 */
export function resumeRing(
  ring: BackendRing,
  id: SourceMark['id'],
  expected: SourceMark | undefined,
  spool: SpoolQueue,
): Resumed {
  if (expected === undefined || expected.id[0] !== id[0] || expected.id[1] !== id[1]) return NOTHING;
  const ahead = (expected.position - ring.outConsumed) | 0;
  if (ahead < 0) return { skippedBytes: 0, missedBytes: -ahead };
  if (ahead === 0 || ahead > OUT_BYTES || spool.size < ahead) return NOTHING;
  const found = Buffer.alloc(OUT_BYTES);
  if (ring.peekOut(found, 0) < ahead) return NOTHING;
  if (!spool.copyAll().subarray(-ahead).equals(found.subarray(0, ahead))) return NOTHING;
  ring.publishConsumed(ahead);
  return { skippedBytes: ahead, missedBytes: 0 };
}
