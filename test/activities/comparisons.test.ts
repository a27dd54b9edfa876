import { describe, expect, it } from 'vitest';
import { handOver, takenOver, type HandedComparison } from '../../src/activities/comparisons.js';
import { compareDisks, type Comparison } from '../../src/transfer/index.js';
import { KiB, MemorySource, MiB } from '../transfer/harness.js';

const OF = 'vc snapshot-1 2000 pool vdi';
const BLOCK = 64 * KiB;

/** Compares a disk whose every second block differs, or what is left of it. */
async function compare(size: number, comparison: Comparison) {
  const source = new MemorySource(Buffer.alloc(size));
  const target = Buffer.alloc(size);
  for (let offset = 0; offset < size; offset += 2 * BLOCK) target[offset] = 1;
  const signal = new AbortController().signal;
  const ranges = await compareDisks({
    ...{ comparison, virtualSizeBytes: size, openReader: source.open, signal },
    readTarget: async function* (from = 0) {
      for (let at = from; at < size; at += MiB) yield target.subarray(at, at + MiB);
    },
  });
  return { ranges, readFrom: Math.min(size, ...source.reads.map(([offset]) => offset)) };
}

/** As a heartbeat takes it: nothing but JSON. */
const sent = (comparison: Comparison) => JSON.parse(JSON.stringify(handOver(OF, comparison))) as HandedComparison;

describe('a comparison that another worker goes on with', () => {
  it('[S14] reads what is left and comes to the same ranges', async () => {
    const whole = await compare(12 * MiB, { position: 0, ranges: [] });
    const ranges = whole.ranges.filter(({ offset }) => offset < 6 * MiB);
    const taken = takenOver(sent({ position: 6 * MiB, ranges }), OF, 12 * MiB);
    expect(taken).toEqual({ position: 6 * MiB, ranges });
    const rest = await compare(12 * MiB, taken as Comparison);
    expect(rest).toEqual({ ranges: whole.ranges, readFrom: 6 * MiB });
  });

  it('is handed on with a bounded number of differences, and what lies behind them is compared again', async () => {
    const size = 600 * MiB;
    const ranges = Array.from({ length: size / BLOCK / 2 }, (_, index) => ({
      ...{ offset: 2 * index * BLOCK, length: BLOCK },
    }));
    const handed = sent({ position: size, ranges });
    expect(JSON.stringify(handed).length).toBeLessThan(128 * KiB);
    const taken = takenOver(handed, OF, size);
    expect(taken).toEqual({ position: 4096 * 2 * BLOCK, ranges: ranges.slice(0, 4096) });
    expect(await compare(size, taken as Comparison)).toEqual({ ranges, readFrom: 512 * MiB });
  });

  it.each([
    ['of other disks', { of: 'vc snapshot-2 2000 pool vdi' }],
    ['beyond the end', { position: 12 * MiB + 512 }],
    ['within a sector', { position: MiB + 1 }],
    ['of ranges that it has not reached', { ranges: [2 * MiB, 512] }],
    ['of ranges out of order', { ranges: [BLOCK, BLOCK, 0, 512] }],
    ['of ranges that touch', { ranges: [0, BLOCK, BLOCK, BLOCK] }],
    ['of half a range', { ranges: [0] }],
    ['of an empty range', { ranges: [0, 0] }],
    ['of no numbers', { ranges: [null, 512] }],
    ['of no list', { ranges: undefined }],
    ['of no position', { position: undefined }],
  ])('is compared anew where it is one %s', (_what, changes) => {
    const good = { of: OF, position: 2 * MiB, ranges: [0, BLOCK] };
    expect(takenOver(good, OF, 12 * MiB)).toBeDefined();
    expect(takenOver({ ...good, ...changes } as HandedComparison, OF, 12 * MiB)).toBeUndefined();
  });

  it('is begun anew where none was handed', () => {
    expect(takenOver(undefined, OF, 12 * MiB)).toBeUndefined();
  });
});
