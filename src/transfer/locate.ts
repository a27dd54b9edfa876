import { HEADROOM_BYTES, type BlockReader } from '../shared/blocks.js';
import { ByteStream } from './byte-stream.js';
import { chunkReads } from './chunk-reads.js';
import { Differences, mismatch } from './mismatch.js';
import type { Plan, ReadBack } from './types.js';

/** Gives parts of the target in ascending order. */
export interface TargetParts {
  take(offset: number, length: number): Promise<Buffer>;
  close(): Promise<void>;
}

export function partsOfStream(readBack: ReadBack): TargetParts {
  const stream = new ByteStream(readBack());
  return {
    async take(offset, length) {
      while (stream.position < offset) {
        if ((await stream.take(offset - stream.position)) === undefined) break;
      }
      const pieces: Buffer[] = [];
      for (let left = length; left > 0;) {
        const piece = await stream.take(left);
        if (piece === undefined) break;
        pieces.push(Buffer.from(piece));
        left -= piece.length;
      }
      return Buffer.concat(pieces);
    },
    close: () => stream.close(),
  };
}

export function partsOfReader(reader: Pick<BlockReader, 'read'>): TargetParts {
  return {
    async take(offset, length) {
      const buffer = Buffer.alloc(HEADROOM_BYTES + length);
      await reader.read(offset, length, buffer);
      return buffer.subarray(HEADROOM_BYTES);
    },
    close: () => Promise.resolve(),
  };
}

/**
 * The digests differ: finds where, by reading the source again beside the target, while its snapshot lives. Adds to what
 * was found outside the plan.
 *
 * @returns The failure to throw.
 */
export async function locateAgainstSource(
  plan: Plan,
  openReader: (() => Promise<BlockReader>) | undefined,
  target: TargetParts,
  differences: Differences,
): Promise<Error> {
  const first = plan.ranges.at(0)?.offset ?? 0;
  const last = plan.ranges.at(-1);
  const all = last === undefined ? 0 : last.offset + last.length - first;
  try {
    if (openReader === undefined) return mismatch(first, all, 'or a later one in the copied ranges has another digest');
    const before = differences.count;
    const reader = await openReader();
    try {
      for await (const { chunk, payload } of chunkReads(reader, plan)) {
        const found = await target.take(chunk.offset, chunk.length);
        differences.compare(chunk.offset, payload, found, 'is not what the source holds');
        if (!differences.isBounded) break;
      }
    } finally {
      await reader.close();
    }
    if (differences.count > before) return differences.failure();
    return mismatch(first, all, 'or a later one had another digest when it was copied, yet now both sides are equal');
  } finally {
    await target.close();
  }
}
