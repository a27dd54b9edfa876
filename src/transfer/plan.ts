import { setImmediate as turn } from 'node:timers/promises';
import { failure } from '../shared/errors.js';
import { createHasher } from './blake3.js';
import { PackedRanges } from './range-list.js';
import { CHUNK_BYTES, type Plan, type Range, type RangeList } from './types.js';

/** There may be a million ranges; so many are gone through before other transfers of this process have their turn. */
const IN_ONE_TURN = 16_384;
/** Targets with 4096-byte sectors accept nothing finer, so ranges grow outwards to it. */
const ALIGN_BYTES = 4096;

/**
 * A plan from byte ranges in any order, such as CBT areas. Touching and overlapping ones are merged.
 *
 * @throws ChangedAreasInvalid when a range is no multiple of 512, empty, or ends past the disk.
 */
export async function planFromAreas(
  kind: Plan['kind'],
  virtualSizeBytes: number,
  areas: Iterable<Range>,
): Promise<Plan> {
  const wanted = new PackedRanges();
  let count = 0;
  for (const { offset, length } of areas) {
    addAligned(wanted, offset, length, virtualSizeBytes);
    if (++count % IN_ONE_TURN === 0) await turn();
  }
  return finish(kind, virtualSizeBytes, wanted.sorted());
}

/**
 * A plan from a disk's map. A base skips only what reads as zeroes; `absent` is unknown and is read. A delta takes all that
 * this link holds, its zeroes too, for they overwrite older data.
 */
export async function planFromMap(
  kind: Plan['kind'],
  virtualSizeBytes: number,
  map: AsyncIterable<Range & { kind: 'data' | 'zero' | 'absent' }>,
): Promise<Plan> {
  const wanted = new PackedRanges();
  const skipped = kind === 'base' ? 'zero' : 'absent';
  for await (const { offset, length, kind: run } of map) {
    if (run !== skipped) addAligned(wanted, offset, length, virtualSizeBytes);
  }
  return finish(kind, virtualSizeBytes, wanted.sorted());
}

function addAligned(wanted: PackedRanges, offset: number, length: number, virtualSizeBytes: number): void {
  const end = offset + length;
  if (offset < 0 || length <= 0 || end > virtualSizeBytes || offset % 512 !== 0 || length % 512 !== 0) {
    throw failure('ChangedAreasInvalid', {
      what: `The range of ${length} bytes at byte ${offset} does not fit a disk of ${virtualSizeBytes} bytes.`,
      why: 'It is empty, ends past the disk, or is no multiple of 512.',
      next: 'copy this disk in full.',
    });
  }
  const from = offset - (offset % ALIGN_BYTES);
  wanted.add(from, Math.min(Math.ceil(end / ALIGN_BYTES) * ALIGN_BYTES, virtualSizeBytes));
}

/** Reads everything; on a base the zero test keeps zeroes off the wire. */
export async function planWholeDisk(kind: Plan['kind'], virtualSizeBytes: number): Promise<Plan> {
  return planFromAreas(kind, virtualSizeBytes, virtualSizeBytes === 0 ? [] : [{ offset: 0, length: virtualSizeBytes }]);
}

async function finish(kind: Plan['kind'], virtualSizeBytes: number, ranges: RangeList): Promise<Plan> {
  const hasher = await createHasher();
  hasher.update(Buffer.from(`${kind} ${virtualSizeBytes}\n`));
  // Pairs of offset and length, 64 bits each, digested many at a time.
  const pairs = Buffer.alloc(16 * IN_ONE_TURN);
  let filled = 0;
  let plannedBytes = 0;
  for (const { offset, length } of ranges) {
    pairs.writeUInt32LE(offset % 2 ** 32, filled);
    pairs.writeUInt32LE(Math.floor(offset / 2 ** 32), filled + 4);
    pairs.writeUInt32LE(length % 2 ** 32, filled + 8);
    pairs.writeUInt32LE(Math.floor(length / 2 ** 32), filled + 12);
    plannedBytes += length;
    filled += 16;
    if (filled < pairs.length) continue;
    hasher.update(pairs);
    filled = 0;
    await turn();
  }
  hasher.update(pairs.subarray(0, filled));
  return { kind, virtualSizeBytes, ranges, plannedBytes, planDigest: hasher.digest().toString('hex') };
}

/** One read and, at most, one chunk on the wire. */
export interface Chunk extends Range {
  /** Planned bytes before it. */
  position: number;
}

/** The plan's chunks in ascending order, from a position that is a chunk boundary. Nothing but the plan decides them. */
export class ChunkCursor {
  readonly #ranges: RangeList;
  #index = 0;
  #range: Range | undefined;
  #within = 0;
  #position: number;

  constructor(plan: Pick<Plan, 'ranges'>, position = 0) {
    this.#ranges = plan.ranges;
    this.#range = plan.ranges.at(0);
    this.#position = position;
    let rest = position;
    while (this.#range !== undefined && rest >= this.#range.length) {
      rest -= this.#range.length;
      this.#range = this.#ranges.at(++this.#index);
    }
    this.#within = rest;
  }

  peek(): Chunk | undefined {
    const range = this.#range;
    if (range === undefined) return undefined;
    const offset = range.offset + this.#within;
    const length = Math.min(range.length - this.#within, CHUNK_BYTES - (offset % CHUNK_BYTES));
    return { offset, length, position: this.#position };
  }

  next(): Chunk | undefined {
    const chunk = this.peek();
    if (chunk === undefined) return undefined;
    this.#within += chunk.length;
    this.#position += chunk.length;
    if (this.#within === this.#range?.length) {
      this.#range = this.#ranges.at(++this.#index);
      this.#within = 0;
    }
    return chunk;
  }
}

/** A part of the plan that fits one PUT. */
export interface Segment {
  from: number;
  to: number;
  offset: number;
  endOffset: number;
}

/** The next segment: whole chunks, at most `maxBytes` planned bytes (at least one chunk), or exactly up to `to`. */
export function nextSegment(plan: Plan, from: number, limit: { maxBytes: number } | { to: number }): Segment {
  const cursor = new ChunkCursor(plan, from);
  const first = cursor.peek();
  const end = 'to' in limit ? limit.to : from + limit.maxBytes;
  const segment = { from, to: from, offset: first?.offset ?? 0, endOffset: first?.offset ?? 0 };
  for (let chunk = cursor.next(); chunk !== undefined; chunk = cursor.next()) {
    if (chunk.position + chunk.length > end && segment.to > from) break;
    segment.to = chunk.position + chunk.length;
    segment.endOffset = chunk.offset + chunk.length;
    if (segment.to >= end) break;
  }
  return segment;
}
