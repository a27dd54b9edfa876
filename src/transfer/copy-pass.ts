import { failure } from '../shared/errors.js';
import { addTimes, NO_TIME, type TimeSpent } from '../shared/time-spent.js';
import { resumePoint } from './checkpoint.js';
import { DigestChain } from './digest-chain.js';
import { Division } from './division.js';
import { nextSegment, type Segment } from './plan.js';
import { makePool, pump, type Pool } from './pump.js';
import { RateMeter } from './rate-meter.js';
import { ReconnectingReader } from './reconnecting-reader.js';
import type { Checkpoint, CopyPassOptions, CopyPassResult } from './types.js';

const DEFAULT_SEGMENT_BYTES = 4 * 1024 ** 3;
const DEFAULT_SEGMENT_SECONDS = 300;
/** In an outage it is a minute of it, for a list that saves as many attempts as it has entries. */
const DEFAULT_LOOK_ON_SECONDS = 60;
const DEFAULT_DEPTH = 6;

/**
 * Copies one pass of one disk, segment by segment, and resumes from the checkpoint store.
 *
 * May run twice, also after having completed: then it sends nothing and gives the same result. Before a segment's first
 * byte the segment is recorded; after its acknowledgement the checkpoint moves on. A segment found recorded is sent again
 * literally: a cut PUT leaves stale bytes inside what it announced, and only a byte sent again is known.
 *
 * @throws PlanChanged, SourceReadFailed, what the source, the sink and the store throw, or the signal's reason.
 */
export async function copyPass(options: CopyPassOptions): Promise<CopyPassResult> {
  const { plan, signal, depth = DEFAULT_DEPTH } = options;
  signal.throwIfAborted();
  let checkpoint = await resumePoint(options);
  const resumedFrom = checkpoint.done > 0 || checkpoint.attempt !== undefined ? checkpoint.done : undefined;
  const reader = new ReconnectingReader(() => openLargeEnough(options), signal, options.reconnect);
  const progress = new Progress(options, checkpoint);
  const pool = makePool(depth);
  try {
    if (plan.plannedBytes === 0) await options.checkpoints.save(checkpoint);
    for (let index = 0; checkpoint.done < plan.plannedBytes; index++) {
      signal.throwIfAborted();
      await options.throttle?.opens(signal);
      checkpoint = await copySegment(options, checkpoint, { index, reader, pool, depth, progress });
    }
  } finally {
    await reader.close();
  }
  const { bytesRead, bytesSent, seconds, segments, spent, chunks, chainDigest } = checkpoint;
  return {
    ...{ bytesRead, bytesSent, bytesPlanned: plan.plannedBytes, seconds, segments, spent, chunks, chainDigest },
    planDigest: plan.planDigest,
    ...(resumedFrom === undefined ? {} : { resumedFrom }),
  };
}

interface Run {
  index: number;
  reader: ReconnectingReader;
  pool: Pool;
  depth: number;
  progress: Progress;
}

async function copySegment(options: CopyPassOptions, before: Checkpoint, run: Run): Promise<Checkpoint> {
  const { plan, sink, checkpoints, signal } = options;
  const { attempt } = before;
  const startedAt = performance.now();
  const segment: Segment = nextSegment(
    plan,
    before.done,
    attempt === undefined ? { maxBytes: options.segmentBytes ?? DEFAULT_SEGMENT_BYTES } : { to: attempt.to },
  );
  if (attempt === undefined) {
    await checkpoints.save({ ...before, attempt: { from: segment.from, to: segment.to } });
  }
  const writer = await sink.open({ index: run.index, ...segment }, signal).catch(async (error: unknown) => {
    // Nothing was announced, so nothing has to be sent again literally. Failing to say so only costs bytes.
    if (attempt === undefined) await checkpoints.save(before).catch(() => undefined);
    throw error;
  });
  const endAt = performance.now() + (options.segmentSeconds ?? DEFAULT_SEGMENT_SECONDS) * 1000;
  const division = new Division(options.sourceLinkShare, () => writer.linkShare?.());
  run.progress.divide = (spent) => division.of(spent);
  const chain = await (options.openChain ?? DigestChain.create)(before.chainDigest, before.chunks);
  let bytesRead = 0;
  let bytesSent = 0;
  let pumped;
  let spent;
  try {
    pumped = await pump({
      ...{ plan, segment, writer, chain, signal, throttle: options.throttle },
      ...{ reader: run.reader, pool: run.pool, depth: run.depth },
      literal: plan.kind === 'delta' || attempt !== undefined,
      endAt,
      lookOnMs: (options.lookOnSeconds ?? DEFAULT_LOOK_ON_SECONDS) * 1000,
      onChunk: (read, sent, spent) => {
        bytesRead += read;
        bytesSent += sent;
        run.progress.add(read, sent, spent);
      },
    });
    const finishedAt = performance.now();
    await writer.finish();
    const acknowledging = (performance.now() - finishedAt) / 1000;
    spent = division.of(pumped.spent);
    spent.write += acknowledging;
    spent.writeHost += acknowledging;
  } catch (error) {
    writer.abort();
    // A pause that went wrong is still a pause: the record of the attempt makes the next run send all of it again.
    signal.throwIfAborted();
    throw error;
  }
  // An early end is as certain as a full one: only whole chunks before `to` were ever announced. What an earlier, broken
  // attempt had announced beyond it stays in doubt.
  const left = attempt !== undefined && pumped.to < attempt.to ? { from: pumped.to, to: attempt.to } : undefined;
  const { attempt: _settled, ...rest } = before;
  const after: Checkpoint = {
    ...rest,
    done: pumped.to,
    chainDigest: chain.value,
    chunks: chain.chunks,
    ...(left === undefined ? {} : { attempt: left }),
    bytesRead: before.bytesRead + bytesRead,
    bytesSent: before.bytesSent + bytesSent,
    seconds: before.seconds + (performance.now() - startedAt) / 1000,
    segments: before.segments + 1,
    spent: addTimes(before.spent, spent),
  };
  await checkpoints.save(after);
  run.progress.settle(after);
  if (pumped.stoppedBy !== undefined) throw pumped.stoppedBy.reason;
  return after;
}

async function openLargeEnough({ openReader, plan }: CopyPassOptions) {
  const reader = await openReader();
  if (reader.sizeBytes >= plan.virtualSizeBytes) return reader;
  await reader.close();
  throw failure('PlanChanged', {
    what: `The source disk has ${reader.sizeBytes} bytes, but the pass was planned for ${plan.virtualSizeBytes}.`,
    next: 'check that the snapshot and the file name belong to the same disk, then copy it in full.',
  });
}

class Progress {
  readonly #options: CopyPassOptions;
  readonly #meter: RateMeter;
  /** Of the segments that are acknowledged. */
  #before: Checkpoint;
  /** Tells what the one in flight waits for apart. */
  divide = (spent: TimeSpent) => spent;
  /** Of the one in flight. */
  #now = { bytesRead: 0, bytesSent: 0, spent: NO_TIME };

  constructor(options: CopyPassOptions, before: Checkpoint) {
    this.#options = options;
    this.#meter = new RateMeter(before.done);
    this.#before = before;
    this.#tell();
  }

  add(read: number, sent: number, spent: TimeSpent): void {
    this.#now.bytesRead += read;
    this.#now.bytesSent += sent;
    this.#now.spent = spent;
    if (this.#meter.isDue()) this.#tell();
  }

  settle(after: Checkpoint): void {
    this.#before = after;
    this.#now = { bytesRead: 0, bytesSent: 0, spent: NO_TIME };
    this.divide = (spent) => spent;
    this.#tell();
  }

  #tell(): void {
    const { done, bytesRead, bytesSent, spent } = this.#before;
    const bytesDone = done + this.#now.bytesRead;
    this.#options.onProgress?.({
      bytesDone,
      bytesTotal: this.#options.plan.plannedBytes,
      bytesPerSecond: this.#meter.rate(bytesDone),
      bytesRead: bytesRead + this.#now.bytesRead,
      bytesSent: bytesSent + this.#now.bytesSent,
      spent: addTimes(spent, this.divide(this.#now.spent)),
    });
  }
}
