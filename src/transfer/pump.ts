import { HEADROOM_BYTES, TAILROOM_BYTES, type SegmentWriter } from '../shared/blocks.js';
import { NO_TIME, type TimeSpent } from '../shared/time-spent.js';
import type { Chain } from './digest-chain.js';
import { nonZeroRuns } from './non-zero-runs.js';
import { ChunkCursor, type Chunk, type Segment } from './plan.js';
import { failureTypeOf } from '../shared/errors.js';
import type { ReconnectingReader } from './reconnecting-reader.js';
import type { Throttle } from './throttle.js';
import { CHUNK_BYTES, type Plan } from './types.js';

export interface PumpOptions {
  plan: Plan;
  segment: Segment;
  /** Send zeroes as they are: always for a delta, and for whatever may have been sent in part before. */
  literal: boolean;
  reader: ReconnectingReader;
  writer: SegmentWriter;
  /** Goes on from the chunk before the segment. */
  chain: Chain;
  pool: Pool;
  depth: number;
  signal: AbortSignal;
  throttle?: Throttle | undefined;
  /** `performance.now()` after which no further read begins. */
  endAt: number;
  /** How long the rest of the segment is read for more sectors like the first that cannot be read. */
  lookOnMs: number;
  onChunk: (bytesRead: number, bytesSent: number, spent: TimeSpent) => void;
}

export interface Pumped {
  spent: TimeSpent;
  /** Every planned byte before this position was given to the writer, whole chunks only. */
  to: number;
  /** Why it ended before the end of the segment; absent when only time ran out. */
  stoppedBy?: { reason: unknown };
}

/**
 * Buffers for chunks, with the room around them that reader and writer want: as many as may be read ahead, and those that
 * are digested and written meanwhile. A buffer whose read was given up is not returned.
 *
 * A delta is often chunks of 64 KiB. Those are read ahead in greater number, in buffers of their own: else a source that
 * takes some milliseconds would give a fortieth of its rate. What each costs besides its bytes counts as well, so they are
 * asked for by eights and written together.
 */
export interface Pool {
  large: Buffer[];
  small: Buffer[];
}

const SMALL_CHUNK_BYTES = 128 * 1024;
const SMALL_DEPTH = 32;
const SMALL_AT_A_TIME = 8;
/** Written together at most. Whatever is written together is copied once more, so this stays within a processor's cache. */
const TOGETHER_BYTES = 256 * 1024;

export function makePool(depth: number): Pool {
  const buffers = (count: number, bytes: number) =>
    Array.from({ length: count }, () => Buffer.allocUnsafeSlow(HEADROOM_BYTES + bytes + TAILROOM_BYTES));
  return {
    large: buffers(depth + 2, CHUNK_BYTES),
    small: buffers(SMALL_DEPTH + SMALL_AT_A_TIME + 1, SMALL_CHUNK_BYTES),
  };
}

interface Ahead {
  chunk: Chunk;
  buffer: Buffer;
  size: keyof Pool;
  ready: Promise<unknown>;
}

/**
 * Moves one segment: reads ahead, digests and writes whole chunks in ascending order. Memory is the pool.
 * A source that fails and a pause both stop between chunks, so the PUT can still end properly. Sectors that cannot be read
 * seldom come alone: the rest of the segment is then read, and not sent, so that one attempt names as many as it can.
 *
 * @throws What the writer throws; everything of the segment is then doubtful.
 */
export async function pump(options: PumpOptions): Promise<Pumped> {
  const { plan, segment, literal, reader, writer, chain, pool, depth, signal, throttle, lookOnMs, onChunk } = options;
  let { endAt } = options;
  const cursor = new ChunkCursor(plan, segment.from);
  const ahead: Ahead[] = [];
  const reading = { large: 0, small: 0 };
  /** Chunks under way, the oldest first. One that failed stays, to be noticed. */
  const writing = new Set<Promise<void>>();
  let writingBytes = 0;
  let to = segment.from;
  let stoppedBy: Pumped['stoppedBy'];
  /** Nothing is sent any more: the rest is read to know what else of it cannot be. */
  let lookingOn: NodeJS.Timeout | undefined;
  const spent = { ...NO_TIME };
  let lapAt = performance.now();
  const lap = (leg: keyof TimeSpent) => {
    const now = performance.now();
    spent[leg] += (now - lapAt) / 1000;
    lapAt = now;
  };

  const readAhead = () => {
    // Late or not, a segment has at least one chunk; else a slow receiver would mean no progress at all.
    const inTime = () => performance.now() < endAt && throttle?.limit !== 0;
    const mayBegin = () => inTime() || (to === segment.from && ahead.length === 0 && !lookingOn);
    const most = { large: depth, small: reading.small > SMALL_DEPTH - SMALL_AT_A_TIME ? 0 : SMALL_DEPTH };
    while (mayBegin()) {
      const chunk = cursor.peek();
      if (chunk === undefined || chunk.position >= segment.to) return;
      const size = chunk.length <= SMALL_CHUNK_BYTES ? 'small' : 'large';
      const buffer = reading[size] < most[size] ? pool[size].pop() : undefined;
      if (buffer === undefined) return;
      cursor.next();
      reading[size]++;
      const ready = reader.read(chunk.offset, chunk.length, buffer);
      // It is awaited later; until then a failure must not count as unhandled.
      ready.catch(() => undefined);
      ahead.push({ chunk, buffer, size, ready });
    }
  };
  const write = async ({ chunk: { offset }, buffer, size }: Ahead, payload: Buffer) => {
    const runs = literal ? [{ offset: 0, length: payload.length }] : nonZeroRuns(payload, offset);
    let bytesSent = 0;
    for (const run of runs) {
      await writer.write(offset + run.offset, payload.subarray(run.offset, run.offset + run.length));
      bytesSent += run.length;
    }
    pool[size].push(buffer);
    onChunk(payload.length, bytesSent, spent);
  };
  const roomFor = async (length: number) => {
    const isFull = () => writingBytes + length > TOGETHER_BYTES || writing.size >= SMALL_AT_A_TIME;
    while (writing.size > 0 && isFull()) await writing.values().next().value;
  };
  const beginWriting = (head: Ahead, payload: Buffer) => {
    writingBytes += payload.length;
    const written = write(head, payload).then(() => {
      writingBytes -= payload.length;
      writing.delete(written);
    });
    written.catch(() => undefined);
    writing.add(written);
  };

  // A read may take minutes; a pause does not wait for it. One listener for all: there may be a million chunks.
  let giveUp: ((reason: unknown) => void) | undefined;
  const onAbort = () => giveUp?.(signal.reason);
  const unlessAborted = (ready: Promise<unknown>) =>
    new Promise((resolve, reject) => {
      giveUp = reject;
      ready.then(resolve, reject);
    });
  signal.addEventListener('abort', onAbort, { once: true });

  try {
    while (!signal.aborted && !(lookingOn && performance.now() > endAt)) {
      readAhead();
      const head = ahead.shift();
      if (head === undefined) break;
      try {
        await unlessAborted(head.ready);
        reading[head.size]--;
        lap('read');
        if (throttle !== undefined) await throttle.take(head.chunk.length, signal);
        lap('limit');
      } catch (reason) {
        stoppedBy ??= { reason };
        if (failureTypeOf(reason) !== 'SectorsUnreadable' || performance.now() > endAt) break;
        reading[head.size]--;
        if (!lookingOn) {
          endAt = Math.min(endAt, performance.now() + lookOnMs);
          lookingOn = setTimeout(() => giveUp?.('long enough'), endAt - performance.now() + 1);
        }
      }
      if (lookingOn) {
        pool[head.size].push(head.buffer);
        continue;
      }
      const { offset, length, position } = head.chunk;
      const payload = head.buffer.subarray(HEADROOM_BYTES, HEADROOM_BYTES + length);
      chain.add(offset, payload);
      lap('digest');
      await roomFor(length);
      lap('write');
      beginWriting(head, payload);
      to = position + length;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    clearTimeout(lookingOn);
  }
  await Promise.all(writing);
  lap('write');
  if (lookingOn) stoppedBy = { reason: reader.sectorsUnreadable };
  if (signal.aborted && to < segment.to) stoppedBy = { reason: signal.reason };
  return { to, spent, ...(stoppedBy === undefined ? {} : { stoppedBy }) };
}
