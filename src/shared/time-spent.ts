/** Seconds of a pass by what was waited for. Reading and writing go on side by side, so the longest wait is the slowest leg. */
export interface TimeSpent {
  /** For the source's bytes. */
  read: number;
  /** For the target to take bytes, and to acknowledge them. */
  write: number;
  /** For the digest of what was read. */
  digest: number;
  /** For the configured limit. */
  limit: number;
}

export const NO_TIME: Readonly<TimeSpent> = { read: 0, write: 0, digest: 0, limit: 0 };

export function addTimes(a: TimeSpent, b: TimeSpent): TimeSpent {
  return { read: a.read + b.read, write: a.write + b.write, digest: a.digest + b.digest, limit: a.limit + b.limit };
}

/** What bounds a transfer's rate. */
export type Bottleneck = 'source' | 'target' | 'this host' | 'limit';

/** Above this share of its thread's time a transfer waits for nobody: the processor is what bounds it. */
const SATURATED = 0.9;

/**
 * The slowest leg of a transfer, in a word.
 *
 * @param busy Share of the time in which the thread that moves the bytes was busy, 0 to 1.
 * @returns Undefined when nothing has been moved yet.
 */
export function bottleneckOf(spent: TimeSpent, busy: number): Bottleneck | undefined {
  const { read, write, digest, limit } = spent;
  const longest = Math.max(read, write, digest, limit);
  if (longest === 0) return undefined;
  if (longest === limit) return 'limit';
  if (longest === digest || busy > SATURATED) return 'this host';
  return longest === read ? 'source' : 'target';
}
