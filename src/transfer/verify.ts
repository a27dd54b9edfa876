import { failure } from '../shared/errors.js';
import { ByteStream } from './byte-stream.js';
import { DigestChain } from './digest-chain.js';
import { locateAgainstSource, partsOfStream } from './locate.js';
import { Differences, mismatch } from './mismatch.js';
import { isZero } from './non-zero-runs.js';
import { ChunkCursor } from './plan.js';
import { RateMeter } from './rate-meter.js';
import type { VerifyDeltaOptions, VerifyOptions, VerifyResult } from './types.js';

/** Judges bytes that no planned range covers. */
type Outside = (piece: Buffer, offset: number, differences: Differences) => void | Promise<void>;

/**
 * Reads a base pass back in full: its planned chunks by digest, everything else must be zero, the rounded-up tail too.
 *
 * @throws VerificationMismatch, with the first place in its details and, where they can be sent again, all `extents`:
 * exact outside the plan, and inside it when `openReader` gives the source to compare with; else the planned part as a whole.
 */
export function verifyBase(options: VerifyOptions): Promise<VerifyResult> {
  return verify(options, expectZero);
}

const expectZero: Outside = (piece, offset, differences) => {
  if (!isZero(piece)) {
    differences.compare(offset, Buffer.alloc(piece.length), piece, 'is not zero, but nothing was copied there');
  }
};

/**
 * Reads a delta's result back beside the previous verified state: inside the plan by digest, equal everywhere else.
 *
 * @throws VerificationMismatch as `verifyBase`.
 */
export async function verifyDelta(options: VerifyDeltaOptions): Promise<VerifyResult> {
  const from = options.from?.position ?? 0;
  const previous = new ByteStream(options.readBackPrevious(from), from);
  const skip = async (length: number) => {
    while (length > 0)
      length -= (await previous.take(length))?.length ?? missing('the previous state', previous.position);
  };
  try {
    return await verify(options, async (piece, offset, differences) => {
      await skip(offset - previous.position);
      for (let at = 0; at < piece.length;) {
        const old = (await previous.take(piece.length - at)) ?? missing('the previous state', previous.position);
        const now = piece.subarray(at, at + old.length);
        differences.compare(offset + at, old, now, 'changed, although no planned range covers it');
        at += old.length;
      }
    });
  } finally {
    await previous.close();
  }
}

async function verify(options: VerifyOptions, outside: Outside): Promise<VerifyResult> {
  const { plan, chainDigest, targetSizeBytes, signal, onProgress, from, onChecked } = options;
  const startedAt = performance.now() - (from?.seconds ?? 0) * 1000;
  const seconds = () => (performance.now() - startedAt) / 1000;
  const begin = from?.position ?? 0;
  const chain = await DigestChain.create(from?.chain, from?.chunks);
  const cursor = new ChunkCursor(plan, from?.planned);
  const stream = new ByteStream(options.readBack(begin), begin);
  const meter = new RateMeter(begin);
  const differences = new Differences();
  // Once something differs nobody goes on behind it: it is looked at again.
  const checked = (planned: number) => {
    if (differences.count > 0) return;
    onChecked?.({ position: stream.position, planned, chain: chain.value, chunks: chain.chunks, seconds: seconds() });
  };
  const takeAll = async (length: number, use: (piece: Buffer, at: number) => void | Promise<void>) => {
    while (length > 0) {
      signal?.throwIfAborted();
      const at = stream.position;
      const piece = (await stream.take(length)) ?? missing('the read-back', at);
      await use(piece, at);
      if (!differences.isBounded) throw differences.failure();
      length -= piece.length;
      if (meter.isDue())
        onProgress?.({
          bytesDone: stream.position,
          bytesTotal: targetSizeBytes,
          bytesPerSecond: meter.rate(stream.position),
        });
    }
  };
  const takeUnplanned = (length: number, planned: number) =>
    takeAll(length, async (piece, at) => {
      await outside(piece, at, differences);
      checked(planned);
    });
  try {
    for (let chunk = cursor.next(); chunk !== undefined; chunk = cursor.next()) {
      await takeUnplanned(chunk.offset - stream.position, chunk.position);
      chain.begin(chunk.offset, chunk.length);
      await takeAll(chunk.length, (piece) => chain.update(piece));
      chain.end();
      checked(chunk.position + chunk.length);
    }
    await takeUnplanned(targetSizeBytes - stream.position, plan.plannedBytes);
    if ((await stream.take(1)) !== undefined)
      throw mismatch(targetSizeBytes, 1, 'exists, but the disk should have ended');
  } finally {
    await stream.close();
  }
  if (chain.value !== chainDigest) {
    throw await locateAgainstSource(plan, options.openReader, partsOfStream(options.readBack), differences);
  }
  if (differences.count > 0) throw differences.failure();
  return {
    bytesChecked: stream.position,
    detection: 1,
    chunks: chain.chunks,
    seconds: seconds(),
  };
}

function missing(what: string, position: number): never {
  throw failure('ExportIncomplete', {
    what: `The disk ended at byte ${position} of ${what}, before its end.`,
    next: 'it is read again.',
  });
}
