import { describe, expect, it } from 'vitest';
import { failureTypeOf } from '../../src/shared/errors.js';
import { planFromAreas, planFromMap, planWholeDisk } from '../../src/transfer/index.js';
import { ChunkCursor, nextSegment, type Chunk } from '../../src/transfer/plan.js';
import { KiB, MiB } from './harness.js';

function chunksOf(plan: Awaited<ReturnType<typeof planWholeDisk>>, from = 0): Chunk[] {
  const cursor = new ChunkCursor(plan, from);
  return Array.from({ length: 1000 }, () => cursor.next()).filter((chunk) => chunk !== undefined);
}

describe('plan', () => {
  it('sorts areas, merges those that touch or overlap, and keeps a gap', async () => {
    const plan = await planFromAreas('delta', 10 * MiB, [
      { offset: MiB, length: 64 * KiB },
      { offset: 0, length: 64 * KiB },
      { offset: 64 * KiB, length: 64 * KiB },
      { offset: MiB + 32 * KiB, length: 64 * KiB },
    ]);
    expect([...plan.ranges]).toEqual([
      { offset: 0, length: 128 * KiB },
      { offset: MiB, length: 96 * KiB },
    ]);
    expect(plan.plannedBytes).toBe(224 * KiB);
  });

  it('grows areas to whole 4096-byte sectors, but never past the end of the disk', async () => {
    const plan = await planFromAreas('delta', 8192 + 512, [
      { offset: 512, length: 512 },
      { offset: 8192, length: 512 },
    ]);
    expect([...plan.ranges]).toEqual([
      { offset: 0, length: 4096 },
      { offset: 8192, length: 512 },
    ]);
  });

  it.each([
    ['ends past the disk', { offset: MiB - 512, length: 1024 }],
    ['is empty', { offset: 0, length: 0 }],
    ['is no multiple of 512', { offset: 100, length: 512 }],
  ])('rejects an area that %s', async (_why, area) => {
    const error: unknown = await planFromAreas('delta', MiB, [area]).catch((reason: unknown) => reason);
    expect(failureTypeOf(error)).toBe('ChangedAreasInvalid');
  });

  it('leaves zeroes out of a base, but never what is merely absent from a link', async () => {
    const map = async function* () {
      yield { offset: 0, length: MiB, kind: 'zero' as const };
      yield { offset: MiB, length: MiB, kind: 'data' as const };
      yield { offset: 2 * MiB, length: MiB, kind: 'absent' as const };
    };
    expect([...(await planFromMap('base', 3 * MiB, map())).ranges]).toEqual([{ offset: MiB, length: 2 * MiB }]);
    expect([...(await planFromMap('delta', 3 * MiB, map())).ranges]).toEqual([{ offset: 0, length: 2 * MiB }]);
  });

  it('has a digest that no version may change: a copy that waits goes on by it', async () => {
    const { planDigest } = await planFromAreas('delta', 10 * MiB + 512, [
      { offset: MiB, length: 512 },
      { offset: 0, length: 4 * KiB },
      { offset: 4 * KiB, length: 512 },
      { offset: 10 * MiB, length: 512 },
    ]);
    expect(planDigest).toBe('9b64788a379ecfeb9f997da6f7a04316bb8b849c6d2704c614f975501052e409');
  });

  it('has a digest that any other range, size or kind changes', async () => {
    const areas = [{ offset: 0, length: MiB }];
    const digests = await Promise.all([
      planFromAreas('base', 2 * MiB, areas),
      planFromAreas('delta', 2 * MiB, areas),
      planFromAreas('base', 3 * MiB, areas),
      planFromAreas('base', 2 * MiB, [{ offset: MiB, length: MiB }]),
      planFromAreas('base', 2 * MiB, []),
    ]);
    expect(new Set(digests.map((plan) => plan.planDigest)).size).toBe(5);
    expect((await planFromAreas('base', 2 * MiB, areas)).planDigest).toBe(digests[0]?.planDigest);
  });
});

describe('chunks', () => {
  it('are cut on addresses that are multiples of 2 MiB, and end with the range', async () => {
    const plan = await planFromAreas('base', 16 * MiB, [
      { offset: MiB, length: 4 * MiB },
      { offset: 8 * MiB, length: 64 * KiB },
    ]);
    expect(chunksOf(plan)).toEqual([
      { offset: MiB, length: MiB, position: 0 },
      { offset: 2 * MiB, length: 2 * MiB, position: MiB },
      { offset: 4 * MiB, length: MiB, position: 3 * MiB },
      { offset: 8 * MiB, length: 64 * KiB, position: 4 * MiB },
    ]);
  });

  it('are the same from any chunk boundary on', async () => {
    const plan = await planFromAreas('base', 64 * MiB, [
      { offset: MiB, length: 5 * MiB },
      { offset: 8 * MiB, length: 64 * KiB },
      { offset: 10 * MiB, length: 9 * MiB },
    ]);
    const all = chunksOf(plan);
    all.forEach((chunk, i) => expect(chunksOf(plan, chunk.position)).toEqual(all.slice(i)));
    expect(chunksOf(plan, plan.plannedBytes)).toEqual([]);
  });

  it('make segments of whole chunks, at most so many planned bytes, and at least one chunk', async () => {
    const plan = await planWholeDisk('base', 7 * MiB);
    expect(nextSegment(plan, 0, { maxBytes: 5 * MiB })).toEqual({
      from: 0,
      to: 4 * MiB,
      offset: 0,
      endOffset: 4 * MiB,
    });
    expect(nextSegment(plan, 4 * MiB, { maxBytes: 5 * MiB })).toMatchObject({ to: 7 * MiB });
    expect(nextSegment(plan, 0, { maxBytes: 1 })).toMatchObject({ to: 2 * MiB });
    expect(nextSegment(plan, 2 * MiB, { to: 6 * MiB })).toMatchObject({ from: 2 * MiB, to: 6 * MiB });
  });
});
