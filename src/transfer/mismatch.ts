import { failure } from '../shared/errors.js';
import { ByteStream } from './byte-stream.js';
import { chunkReads } from './chunk-reads.js';
import type { VerifyOptions } from './types.js';

export function mismatch(offset: number, length: number, how: string): Error {
  return failure(
    'VerificationMismatch',
    {
      what: `The target differs from the source: byte ${offset} ${how}.`,
      next: 'keep the source as it is and copy this disk in full to a new target disk.',
    },
    { offset, length },
  );
}

export function firstDifference(a: Buffer, b: Buffer): number {
  let low = 0;
  for (let size = Math.min(a.length, b.length); size > 1;) {
    const half = size >> 1;
    const equal = a.compare(b, low, low + half, low, low + half) === 0;
    if (equal) low += half;
    size = equal ? size - half : half;
  }
  return low;
}

/**
 * The digests differ: finds where, by reading the source again beside the target, while its snapshot lives. `length` counts
 * from the first differing byte to the end of the last differing piece of the same chunk.
 */
export async function locateAgainstSource(options: VerifyOptions): Promise<Error> {
  const { plan, readBack, openReader } = options;
  const first = plan.ranges[0]?.offset ?? 0;
  const last = plan.ranges.at(-1);
  const end = last === undefined ? 0 : last.offset + last.length;
  if (openReader === undefined)
    return mismatch(first, end - first, 'or a later one in the copied ranges has another digest');
  const reader = await openReader();
  const target = new ByteStream(readBack());
  try {
    for await (const { chunk, payload } of chunkReads(reader, plan)) {
      while (target.position < chunk.offset) {
        if ((await target.take(chunk.offset - target.position)) === undefined) break;
      }
      let from: number | undefined;
      let to = 0;
      for (let within = 0; within < chunk.length;) {
        const piece = await target.take(chunk.length - within);
        if (piece === undefined) break;
        const same = payload.subarray(within, within + piece.length);
        if (!piece.equals(same)) {
          from ??= within + firstDifference(piece, same);
          to = within + piece.length;
        }
        within += piece.length;
      }
      if (from !== undefined) return mismatch(chunk.offset + from, to - from, 'is not what the source holds');
    }
  } finally {
    await Promise.all([target.close(), reader.close()]);
  }
  return mismatch(
    first,
    end - first,
    'or a later one had another digest when it was copied, yet now both sides are equal',
  );
}
