import { setImmediate as turn } from 'node:timers/promises';
import type { Plan, Range, RangeList } from './types.js';

/** Unit of a sample, on multiples of its size: large enough that seeking does not cost more than reading. */
const UNIT_BYTES = 1024 * 1024;
/** The largest disk has 16 million units; so many are gone through before others have their turn. */
const IN_ONE_TURN = 65_536;

export interface Sample {
  ranges: Range[];
  /** Chance that a given byte outside the plan is among them: units chosen by units there. */
  share: number;
}

/**
 * Chooses a share of what no planned range covers, so that each unit has the same chance and no two choices depend on each
 * other beyond their number (selection sampling, Knuth 3.4.2 S). The same seed chooses the same units.
 */
export async function chooseSample(
  plan: Pick<Plan, 'ranges'>,
  sizeBytes: number,
  share: number,
  seed: number,
): Promise<Sample> {
  const random = mulberry32(seed);
  const units = countOutside(plan, sizeBytes);
  let left = units;
  let wanted = Math.ceil(units * share);
  const chosen = wanted;
  const ranges: Range[] = [];
  for (const unit of unitsOutside(plan, sizeBytes)) {
    if (wanted === 0) break;
    if (random() * left < wanted) {
      ranges.push(unit);
      wanted -= 1;
    }
    left -= 1;
    if (left % IN_ONE_TURN === 0) await turn();
  }
  return { ranges, share: units === 0 ? 1 : chosen / units };
}

function countOutside({ ranges }: Pick<Plan, 'ranges'>, sizeBytes: number): number {
  let count = 0;
  let at = 0;
  for (const { offset, length } of endingAt(ranges, sizeBytes)) {
    if (at < offset) count += Math.ceil(offset / UNIT_BYTES) - Math.floor(at / UNIT_BYTES);
    at = Math.max(at, offset + length);
  }
  return count;
}

function* unitsOutside({ ranges }: Pick<Plan, 'ranges'>, sizeBytes: number): Generator<Range> {
  let at = 0;
  for (const { offset, length } of endingAt(ranges, sizeBytes)) {
    while (at < offset) {
      const end = Math.min(offset, at - (at % UNIT_BYTES) + UNIT_BYTES);
      yield { offset: at, length: end - at };
      at = end;
    }
    at = Math.max(at, offset + length);
  }
}

function* endingAt(ranges: RangeList, sizeBytes: number): Generator<Range> {
  yield* ranges;
  yield { offset: sizeBytes, length: 0 };
}

/** A small generator of numbers from 0 to 1 that a seed repeats; good enough to choose by, no secret. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
