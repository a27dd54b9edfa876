import { ByteStream } from './byte-stream.js';
import { chunkReads } from './chunk-reads.js';
import { RateMeter } from './rate-meter.js';
import { ReconnectingReader } from './reconnecting-reader.js';
import type { OpenReader, Range, ReadBack, ReconnectPolicy, TransferCounters } from './types.js';

/** Differences are told in blocks of this size at least, for a PUT has a header for each range. */
const BLOCK_BYTES = 64 * 1024;
/** Blocks are larger on a disk that has more of them than this, so that the list of differences stays small. */
const MOST_BLOCKS = 2 ** 20;

/** A comparison under way: what lies before `position` was compared, and differs in these ranges. */
export interface Comparison {
  position: number;
  ranges: Range[];
}

export interface CompareOptions {
  /** Goes on from its position, and is kept up to date. */
  comparison: Comparison;
  /** Size of the source disk; what the target has beyond it is not looked at. */
  virtualSizeBytes: number;
  openReader: OpenReader;
  /** The target's last verified state. */
  readTarget: ReadBack;
  signal: AbortSignal;
  /** Called at most twice a second. */
  onProgress?: (progress: TransferCounters) => void;
  reconnect?: ReconnectPolicy;
}

/**
 * Finds where the source differs from the target by reading both side by side, whole. Both must be frozen: then the same
 * comparison always finds the same.
 *
 * @throws What reading throws, or the signal's reason; the comparison can be taken up again from where it was.
 */
export async function compareDisks(options: CompareOptions): Promise<Range[]> {
  const { comparison, virtualSizeBytes, signal, onProgress } = options;
  const { position, ranges } = comparison;
  if (position >= virtualSizeBytes) return ranges;
  const block = blockSize(virtualSizeBytes);
  const reader = new ReconnectingReader(options.openReader, signal, options.reconnect);
  const target = new ByteStream(options.readTarget(position));
  const meter = new RateMeter(position);
  try {
    const rest = { ranges: [{ offset: position, length: virtualSizeBytes - position }] };
    for await (const { chunk, payload } of chunkReads(reader, rest)) {
      for (let at = 0; at < chunk.length;) {
        signal.throwIfAborted();
        const offset = chunk.offset + at;
        const held = await target.take(Math.min(chunk.length - at, block - (offset % block)));
        if (held === undefined) throw new Error(`the target ended at byte ${offset}, before the source`);
        if (!held.equals(payload.subarray(at, at + held.length))) add(ranges, offset, block, virtualSizeBytes);
        at += held.length;
      }
      comparison.position = chunk.offset + chunk.length;
      if (meter.isDue())
        onProgress?.({
          bytesDone: comparison.position,
          bytesTotal: virtualSizeBytes,
          bytesPerSecond: meter.rate(comparison.position),
        });
    }
  } finally {
    await Promise.all([reader.close(), target.close()]);
  }
  return ranges;
}

/** A power of two. */
function blockSize(virtualSizeBytes: number): number {
  let block = BLOCK_BYTES;
  while (virtualSizeBytes / block > MOST_BLOCKS) block *= 2;
  return block;
}

/** Adds the block around a byte that differs; blocks that touch become one range. */
function add(ranges: Range[], offset: number, block: number, end: number): void {
  const from = offset - (offset % block);
  const to = Math.min(from + block, end);
  const last = ranges.at(-1);
  if (last !== undefined && from <= last.offset + last.length) last.length = Math.max(last.length, to - last.offset);
  else ranges.push({ offset: from, length: to - from });
}
