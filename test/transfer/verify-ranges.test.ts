import { beforeAll, describe, expect, it } from 'vitest';
import {
  copyPass,
  planFromAreas,
  readBackBy,
  verifyBase,
  verifyDelta,
  verifyRanges,
  type Plan,
  type VerifyRangesOptions,
} from '../../src/transfer/index.js';
import { chooseSample } from '../../src/transfer/sample.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import { pattern } from '../nbd/nbdkit.js';
import { KiB, MemorySource, MemoryStore, MemoryTarget, MiB } from './harness.js';

const SIZE = 15 * MiB + 512;
const TARGET_SIZE = 16 * MiB;
const TRIALS = 200;
const SHARE = 0.4;
const CHANGED = [
  { offset: 5 * MiB + 4096, length: 300 * KiB },
  { offset: 12 * MiB, length: 2 * MiB },
];

const source = new MemorySource(Buffer.alloc(SIZE));
const target = new MemoryTarget(Buffer.alloc(TARGET_SIZE));
const previous = new MemorySource(Buffer.alloc(TARGET_SIZE));
const baseContent = Buffer.alloc(TARGET_SIZE);
let base: VerifyRangesOptions;
let delta: VerifyRangesOptions;

async function copy(plan: Plan): Promise<VerifyRangesOptions> {
  const { chainDigest } = await copyPass({
    ...{ plan, pass: plan.kind, snapshot: 's', openReader: source.open, sink: target },
    ...{ checkpoints: new MemoryStore(), signal: new AbortController().signal },
  });
  const openTarget = new MemorySource(target.content).open;
  return { plan, chainDigest, targetSizeBytes: TARGET_SIZE, openTarget, openReader: source.open, share: 0, seed: 1 };
}

beforeAll(async () => {
  const areas = [
    { offset: 64 * KiB, length: 128 * KiB },
    { offset: 3 * MiB, length: 3 * MiB },
  ];
  for (const { offset, length } of areas) pattern(length, offset + 1).copy(source.content, offset);
  base = await copy(await planFromAreas('base', SIZE, areas));
  // What the base pass left, once to be spoiled and once to stay.
  target.content.copy(baseContent);
  target.content.copy(previous.content);
  const frozen = new MemorySource(Buffer.from(source.content));
  base = { ...base, openTarget: new MemorySource(baseContent).open, openReader: frozen.open };
  for (const { offset, length } of CHANGED) pattern(length, offset + 2).copy(source.content, offset);
  delta = { ...(await copy(await planFromAreas('delta', SIZE, CHANGED))), openPrevious: previous.open };
});

/** mulberry32, written a second time: a test that shares its subject's generator would share its faults. */
function numbers(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Flips one bit of a random sector, asks for a verdict, mends it; counts the mismatches that name this very sector. */
async function trials(
  content: Buffer,
  verify: (seed: number) => Promise<{ detection: number }>,
): Promise<{ found: number; stated: number }> {
  const random = numbers(20_261_125);
  let found = 0;
  let stated = 0;
  for (let trial = 0; trial < TRIALS; trial++) {
    const at = Math.floor(random() * (content.length / 512)) * 512 + Math.floor(random() * 512);
    const mask = 1 << Math.floor(random() * 8);
    content[at] = (content[at] ?? 0) ^ mask;
    try {
      stated = (await verify(trial)).detection;
    } catch (error) {
      expect(failureTypeOf(error)).toBe('VerificationMismatch');
      const [{ offset, extents }] = (error as { details: [{ offset: number; extents: unknown }] }).details;
      expect([offset, extents]).toEqual([at, [{ offset: at - (at % 4096), length: 4096 }]]);
      found += 1;
    }
    content[at] = (content[at] ?? 0) ^ mask;
  }
  return { found, stated };
}

/** Smallest and largest count that `n` trials of probability `p` leave with a chance of one in ten thousand on each side. */
function binomialBounds(n: number, p: number): [low: number, high: number] {
  const mass = [(1 - p) ** n];
  for (let k = 1; k <= n; k++) mass.push(((mass[k - 1] ?? 0) * (n - k + 1) * p) / (k * (1 - p)));
  const from = (step: (sum: number) => boolean, counts: number[]) => {
    let sum = 0;
    return counts.find((k) => step((sum += mass[k] ?? 0))) ?? 0;
  };
  const counts = mass.map((_, k) => k);
  const isOver = (sum: number) => sum > 1e-4;
  return [from(isOver, counts), from(isOver, counts.toReversed())];
}

describe('[D5] one flipped sector at a random place, 200 trials', () => {
  it.each(['base', 'delta'] as const)(
    'a full read-back finds it each time, after a %s pass',
    async (kind) => {
      const options = kind === 'base' ? base : delta;
      const signal = new AbortController().signal;
      const readBack = readBackBy(options.openTarget, TARGET_SIZE, signal);
      const readBackPrevious = readBackBy(previous.open, TARGET_SIZE, signal);
      const full = { ...options, readBack, readBackPrevious };
      const { found } = await trials(kind === 'base' ? baseContent : target.content, () =>
        kind === 'base' ? verifyBase(full) : verifyDelta(full),
      );
      expect(found).toBe(TRIALS);
    },
    120_000,
  );

  it.each(['base', 'delta'] as const)(
    'a sample finds it as often as it says, after a %s pass',
    async (kind) => {
      const options = kind === 'base' ? base : delta;
      const { found, stated } = await trials(kind === 'base' ? baseContent : target.content, (seed) =>
        verifyRanges({ ...options, share: SHARE, seed }),
      );
      const planned = options.plan.plannedBytes / TARGET_SIZE;
      expect(stated).toBeGreaterThanOrEqual(planned + SHARE * (1 - planned));
      expect(stated).toBeLessThan(planned + (SHARE + 0.1) * (1 - planned));
      const [low, high] = binomialBounds(TRIALS, stated);
      expect(found).toBeGreaterThanOrEqual(low);
      expect(found).toBeLessThanOrEqual(high);
      expect(high - low).toBeLessThan(60);
    },
    120_000,
  );
});

describe('verifyRanges', () => {
  it('reads what was changed and nothing else where no share is asked for', async () => {
    const reads = new MemorySource(target.content);
    const result = await verifyRanges({ ...delta, openTarget: reads.open });
    expect(result.bytesChecked).toBe(delta.plan.plannedBytes);
    expect(reads.reads.reduce((sum, [, length]) => sum + length, 0)).toBe(delta.plan.plannedBytes);
    expect(result.detection).toBeCloseTo(delta.plan.plannedBytes / TARGET_SIZE, 6);
    expect(reads.closed).toBe(reads.opened);
  });

  it('names every place that differs, and those only', async () => {
    const places = [5 * MiB + 4096, 12 * MiB + 12_288, 13 * MiB + 4095];
    for (const at of places) target.content[at] = (target.content[at] ?? 0) ^ 1;
    const error: unknown = await verifyRanges(delta).catch((reason: unknown) => reason);
    for (const at of places) target.content[at] = (target.content[at] ?? 0) ^ 1;
    expect((error as { details: unknown[] }).details[0]).toMatchObject({
      extents: places.map((at) => ({ offset: at - (at % 4096), length: 4096 })),
    });
  });
});

describe('chooseSample', () => {
  const plan = { ranges: [{ offset: 3 * MiB + 4096, length: 8 * MiB }] };

  it('takes the asked share of the units outside the plan, never a byte of the plan, the same for the same seed', async () => {
    const { ranges, share } = await chooseSample(plan, 101 * MiB, 0.25, 7);
    // 4 units before the plan, one of them cut short, 90 after it, the first of them a remainder.
    expect(ranges).toHaveLength(24);
    expect(share).toBe(24 / 94);
    for (const { offset, length } of ranges) {
      expect(offset + length <= 3 * MiB + 4096 || offset >= 11 * MiB + 4096).toBe(true);
      expect(Math.floor(offset / MiB)).toBe(Math.floor((offset + length - 1) / MiB));
    }
    expect((await chooseSample(plan, 101 * MiB, 0.25, 7)).ranges).toEqual(ranges);
    expect((await chooseSample(plan, 101 * MiB, 0.25, 8)).ranges).not.toEqual(ranges);
    expect(await chooseSample(plan, 101 * MiB, 0, 7)).toEqual({ ranges: [], share: 0 });
    expect((await chooseSample(plan, 101 * MiB, 1, 7)).ranges).toHaveLength(94);
  });

  it('gives every unit the same chance', async () => {
    const counts = new Map<number, number>();
    for (let seed = 0; seed < 2000; seed++) {
      for (const { offset } of (await chooseSample(plan, 31 * MiB, 0.25, seed)).ranges) {
        counts.set(offset, (counts.get(offset) ?? 0) + 1);
      }
    }
    const [low, high] = binomialBounds(2000, 6 / 24);
    expect(counts.size).toBe(24);
    for (const count of counts.values()) {
      expect(count).toBeGreaterThanOrEqual(low);
      expect(count).toBeLessThanOrEqual(high);
    }
  });
});
