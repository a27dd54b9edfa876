import { HEADROOM_BYTES } from '../shared/blocks.js';
import { chunkReads } from './chunk-reads.js';
import { DigestChain } from './digest-chain.js';
import { locateAgainstSource, partsOfReader } from './locate.js';
import { Differences } from './mismatch.js';
import { RateMeter } from './rate-meter.js';
import { ReconnectingReader } from './reconnecting-reader.js';
import { chooseSample } from './sample.js';
import { CHUNK_BYTES, type ReadBack, type OpenReader, type VerifyRangesOptions, type VerifyResult } from './types.js';

/**
 * Reads a pass back by range: all that was planned, by digest, and a share of the rest, which has to be zero or, after a
 * delta, as in the previous verified state. A share of 0 checks what was changed and nothing else.
 *
 * A wrong byte outside the plan is found with the probability `share`, as it really came out; anywhere on the disk with
 * `detection`.
 *
 * @throws VerificationMismatch as `verifyBase`.
 */
export async function verifyRanges(options: VerifyRangesOptions): Promise<VerifyResult> {
  const { plan, chainDigest, targetSizeBytes, signal = new AbortController().signal } = options;
  const startedAt = performance.now();
  const { ranges, share } = await chooseSample(plan, targetSizeBytes, options.share, options.seed);
  const sampledBytes = ranges.reduce((sum, { length }) => sum + length, 0);
  const target = new ReconnectingReader(options.openTarget, signal, options.reconnect);
  const previous = options.openPrevious && new ReconnectingReader(options.openPrevious, signal, options.reconnect);
  const differences = new Differences();
  const chain = await DigestChain.create();
  const meter = new RateMeter(0);
  let bytesDone = 0;
  const count = (length: number) => {
    signal.throwIfAborted();
    bytesDone += length;
    const bytesTotal = plan.plannedBytes + sampledBytes;
    if (meter.isDue()) options.onProgress?.({ bytesDone, bytesTotal, bytesPerSecond: meter.rate(bytesDone) });
  };
  try {
    for await (const { chunk, payload } of chunkReads(target, plan)) {
      chain.add(chunk.offset, payload);
      count(chunk.length);
    }
    const old = Buffer.alloc(HEADROOM_BYTES + CHUNK_BYTES);
    for await (const { chunk, payload } of chunkReads(target, { ranges })) {
      // Without a previous state the buffer stays as it is, zero.
      await previous?.read(chunk.offset, chunk.length, old);
      const how = previous
        ? 'changed, although no planned range covers it'
        : 'is not zero, but nothing was copied there';
      differences.compare(chunk.offset, old.subarray(HEADROOM_BYTES, HEADROOM_BYTES + chunk.length), payload, how);
      if (!differences.isBounded) throw differences.failure();
      count(chunk.length);
    }
    if (chain.value !== chainDigest) {
      throw await locateAgainstSource(plan, options.openReader, partsOfReader(target), differences);
    }
    if (differences.count > 0) throw differences.failure();
  } finally {
    await Promise.all([target.close(), previous?.close()]);
  }
  const rest = targetSizeBytes - plan.plannedBytes;
  return {
    bytesChecked: bytesDone,
    share,
    detection: targetSizeBytes === 0 ? 1 : (plan.plannedBytes + share * rest) / targetSizeBytes,
    chunks: chain.chunks,
    seconds: (performance.now() - startedAt) / 1000,
  };
}

/** A disk as a stream, read in order and ahead through connections that are opened again when they are lost. */
export function readBackBy(open: OpenReader, sizeBytes: number, signal: AbortSignal): ReadBack {
  return async function* (from = 0) {
    const reader = new ReconnectingReader(open, signal);
    try {
      const ranges = sizeBytes === from ? [] : [{ offset: from, length: sizeBytes - from }];
      for await (const { payload } of chunkReads(reader, { ranges })) yield payload;
    } finally {
      await reader.close();
    }
  };
}
