import type { BlockReader } from '../shared/blocks.js';
import { failure } from '../shared/errors.js';
import { ByteStream } from './byte-stream.js';
import { chunkReads } from './chunk-reads.js';
import { DigestChain } from './digest-chain.js';
import { firstDifference, locateAgainstSource, mismatch } from './mismatch.js';
import { isZero } from './non-zero-runs.js';
import { ChunkCursor } from './plan.js';
import { RateMeter } from './rate-meter.js';
import type { Plan, VerifyDeltaOptions, VerifyOptions, VerifyResult } from './types.js';

/**
 * Reads a base pass back in full: its planned chunks by digest, everything else must be zero, the rounded-up tail too.
 *
 * @throws VerificationMismatch, with `{offset, length}` in its details: exact outside the plan, and inside it when
 * `openReader` gives the source to compare with; else the planned part as a whole.
 */
export function verifyBase(options: VerifyOptions): Promise<VerifyResult> {
  return verify(options, (piece, offset) => {
    if (!isZero(piece))
      throw mismatch(offset + piece.findIndex((byte) => byte !== 0), 1, 'is not zero, but nothing was copied there');
  });
}

/**
 * Reads a delta's result back beside the previous verified state: inside the plan by digest, equal everywhere else.
 *
 * @throws VerificationMismatch as `verifyBase`.
 */
export async function verifyDelta(options: VerifyDeltaOptions): Promise<VerifyResult> {
  const previous = new ByteStream(options.readBackPrevious());
  const skip = async (length: number) => {
    while (length > 0)
      length -= (await previous.take(length))?.length ?? missing('the previous state', previous.position);
  };
  try {
    return await verify(options, async (piece, offset) => {
      await skip(offset - previous.position);
      for (let at = 0; at < piece.length;) {
        const old = (await previous.take(piece.length - at)) ?? missing('the previous state', previous.position);
        if (old.compare(piece, at, at + old.length) !== 0) {
          throw mismatch(
            offset + at + firstDifference(old, piece.subarray(at, at + old.length)),
            1,
            'changed, although no planned range covers it',
          );
        }
        at += old.length;
      }
    });
  } finally {
    await previous.close();
  }
}

/** Reads only the planned chunks back, where the target can be read by range: the check at cutover (R20). */
export async function verifyPlanned(
  options: Omit<VerifyOptions, 'readBack' | 'targetSizeBytes'> & { target: BlockReader },
): Promise<VerifyResult> {
  const { target, plan } = options;
  return verify(
    { ...options, targetSizeBytes: plan.virtualSizeBytes, readBack: () => plannedBytesOf(target, plan) },
    null,
  );
}

/** @param outside Judges bytes that no planned range covers; null when the stream holds the planned bytes only. */
async function verify(
  options: VerifyOptions,
  outside: ((piece: Buffer, offset: number) => void | Promise<void>) | null,
): Promise<VerifyResult> {
  const { plan, chainDigest, targetSizeBytes, signal, onProgress } = options;
  const startedAt = performance.now();
  const stream = new ByteStream(options.readBack());
  const chain = await DigestChain.create();
  const meter = new RateMeter(0);
  const bytesTotal = outside === null ? plan.plannedBytes : targetSizeBytes;
  const takeAll = async (length: number, use: (piece: Buffer, at: number) => void | Promise<void>) => {
    while (length > 0) {
      signal?.throwIfAborted();
      const at = stream.position;
      const piece = (await stream.take(length)) ?? missing('the read-back', at);
      await use(piece, at);
      length -= piece.length;
      if (meter.isDue())
        onProgress?.({ bytesDone: stream.position, bytesTotal, bytesPerSecond: meter.rate(stream.position) });
    }
  };
  try {
    const cursor = new ChunkCursor(plan);
    for (let chunk = cursor.next(); chunk !== undefined; chunk = cursor.next()) {
      if (outside !== null) await takeAll(chunk.offset - stream.position, outside);
      chain.begin(chunk.offset, chunk.length);
      await takeAll(chunk.length, (piece) => chain.update(piece));
      chain.end();
    }
    if (outside !== null) await takeAll(targetSizeBytes - stream.position, outside);
    if ((await stream.take(1)) !== undefined) throw mismatch(bytesTotal, 1, 'exists, but the disk should have ended');
  } finally {
    await stream.close();
  }
  if (chain.value !== chainDigest) throw await locateAgainstSource(options, outside === null);
  return { bytesChecked: stream.position, seconds: (performance.now() - startedAt) / 1000, chainDigest: chain.value };
}

async function* plannedBytesOf(target: BlockReader, plan: Plan): AsyncGenerator<Buffer> {
  for await (const { payload } of chunkReads(target, plan)) yield payload;
}

function missing(what: string, position: number): never {
  throw failure('ExportIncomplete', {
    what: `The disk ended at byte ${position} of ${what}, before its end.`,
    next: 'it is read again.',
  });
}
