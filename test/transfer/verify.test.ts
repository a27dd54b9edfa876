import { beforeEach, describe, expect, it } from 'vitest';
import { ApplicationFailure } from '@temporalio/common';
import {
  copyPass,
  planFromAreas,
  planWholeDisk,
  verifyBase,
  verifyDelta,
  type Checked,
  type Plan,
  type VerifyOptions,
} from '../../src/transfer/index.js';
import { DigestChain } from '../../src/transfer/digest-chain.js';
import { pattern } from '../nbd/nbdkit.js';
import { KiB, MemorySource, MemoryStore, MemoryTarget, MiB } from './harness.js';

const SIZE = 9 * MiB + 512;
/** XAPI rounds a disk up to 2 MiB. */
const TARGET_SIZE = 10 * MiB;
const AREAS = [
  { offset: 64 * KiB, length: 128 * KiB },
  { offset: 3 * MiB, length: 3 * MiB },
];

let source: MemorySource;
let target: MemoryTarget;
beforeEach(() => {
  source = new MemorySource(Buffer.alloc(SIZE));
  for (const { offset, length } of AREAS) pattern(length, offset + 1).copy(source.content, offset);
  target = new MemoryTarget(Buffer.alloc(TARGET_SIZE));
});

async function copy(plan: Plan): Promise<VerifyOptions> {
  const { chainDigest } = await copyPass({
    ...{ plan, pass: plan.kind, snapshot: 's', openReader: source.open, sink: target },
    ...{ checkpoints: new MemoryStore(), signal: new AbortController().signal },
  });
  return { plan, chainDigest, targetSizeBytes: TARGET_SIZE, readBack: target.readBack };
}

/** Type and place of the failure. */
async function mismatchOf(promise: Promise<unknown>): Promise<unknown> {
  const error: unknown = await promise.catch((reason: unknown) => reason);
  return error instanceof ApplicationFailure ? [error.type, ...(error.details ?? [])] : error;
}

/** What is said of one wrong byte: where it is, and the block to send again. */
function mismatchAt(at: number): unknown {
  const block = at - (at % 4096);
  const extents = [{ offset: block, length: 4096 }];
  return ['VerificationMismatch', { offset: at, length: block + 4096 - at, extents }];
}

describe('verifyBase', () => {
  it('accepts a faithful copy and its rounded-up tail', async () => {
    const options = await copy(await planFromAreas('base', SIZE, AREAS));
    expect(await verifyBase(options)).toMatchObject({ bytesChecked: TARGET_SIZE });
    expect(await verifyBase(await copy(await planWholeDisk('base', SIZE)))).toMatchObject({
      bytesChecked: TARGET_SIZE,
    });
  });

  it.each([
    ['between the planned ranges', MiB + 5],
    ['in the rounded-up tail', SIZE],
    ['in the last byte', TARGET_SIZE - 1],
  ])('finds a byte that is not zero %s', async (_where, at) => {
    const options = await copy(await planFromAreas('base', SIZE, AREAS));
    target.content[at] = 1;
    expect(await mismatchOf(verifyBase(options))).toEqual(mismatchAt(at));
  });

  it('finds a changed byte in a planned range, and where it is with the help of the source', async () => {
    const options = await copy(await planFromAreas('base', SIZE, AREAS));
    target.content[4 * MiB + 100] = (target.content[4 * MiB + 100] ?? 0) ^ 1;
    const [type, place] = (await mismatchOf(verifyBase({ ...options, openReader: source.open }))) as [
      string,
      { offset: number; length: number },
    ];
    expect([type, place.offset]).toEqual(['VerificationMismatch', 4 * MiB + 100]);
    expect(place.length).toBeLessThanOrEqual(64 * KiB);
    expect(source.closed).toBe(source.opened);
    // Without the source only the copied part as a whole is known to differ.
    expect(await mismatchOf(verifyBase(options))).toEqual([
      'VerificationMismatch',
      { offset: 64 * KiB, length: 6 * MiB - 64 * KiB },
    ]);
  });

  it('does not mistake a cut read-back for a mismatch, nor accept it', async () => {
    const options = await copy(await planFromAreas('base', SIZE, AREAS));
    const short = () => new MemoryTarget(target.content.subarray(0, TARGET_SIZE - 1)).readBack();
    expect(await mismatchOf(verifyBase({ ...options, readBack: short }))).toEqual(['ExportIncomplete']);
    const long = () => new MemoryTarget(Buffer.concat([target.content, Buffer.alloc(1)])).readBack();
    expect(await mismatchOf(verifyBase({ ...options, readBack: long }))).toMatchObject(['VerificationMismatch', {}]);
  });

  it('stops when it is told to', async () => {
    const options = await copy(await planFromAreas('base', SIZE, AREAS));
    const signal = AbortSignal.abort(new Error('cancelled'));
    await expect(verifyBase({ ...options, signal })).rejects.toThrow('cancelled');
  });
});

describe('verifyDelta', () => {
  const CHANGED = [
    { offset: 128 * KiB, length: 64 * KiB },
    { offset: 7 * MiB, length: 64 * KiB },
  ];
  let previous: MemoryTarget;
  let options: VerifyOptions;

  beforeEach(async () => {
    await copy(await planFromAreas('base', SIZE, AREAS));
    previous = new MemoryTarget(Buffer.from(target.content));
    for (const { offset, length } of CHANGED) pattern(length, offset + 2).copy(source.content, offset);
    options = await copy(await planFromAreas('delta', SIZE, CHANGED));
  });

  it('accepts new content inside the delta and old content outside', async () => {
    expect(await verifyDelta({ ...options, readBackPrevious: previous.readBack })).toMatchObject({
      bytesChecked: TARGET_SIZE,
    });
    expect(target.content.subarray(0, SIZE).equals(source.content)).toBe(true);
  });

  it('finds a byte that changed although no area covers it', async () => {
    target.content[4 * MiB + 7] = (target.content[4 * MiB + 7] ?? 0) ^ 0x80;
    const found = await mismatchOf(verifyDelta({ ...options, readBackPrevious: previous.readBack }));
    expect(found).toEqual(mismatchAt(4 * MiB + 7));
  });

  it('finds a byte of the delta that did not arrive', async () => {
    previous.content.copy(target.content, 7 * MiB, 7 * MiB, 7 * MiB + 64 * KiB);
    const found = await mismatchOf(
      verifyDelta({ ...options, openReader: source.open, readBackPrevious: previous.readBack }),
    );
    expect(found).toMatchObject(['VerificationMismatch', { offset: 7 * MiB }]);
  });
});

describe('a read-back that was stopped', () => {
  const CHANGED = [
    { offset: 128 * KiB, length: 64 * KiB },
    { offset: 5 * MiB, length: 3 * MiB },
  ];
  let options: VerifyOptions & { previous: MemoryTarget };
  let places: Checked[];
  const verifyFrom = (from?: Checked, onChecked?: (checked: Checked) => void) => {
    const { previous, plan } = options;
    const all = { ...options, ...(from && { from }), ...(onChecked && { onChecked }) };
    return plan.kind === 'base' ? verifyBase(all) : verifyDelta({ ...all, readBackPrevious: previous.readBack });
  };

  describe.each(['base', 'delta'] as const)('after a %s pass', (kind) => {
    beforeEach(async () => {
      const base = await copy(await planFromAreas('base', SIZE, AREAS));
      const previous = new MemoryTarget(Buffer.from(target.content));
      for (const { offset, length } of CHANGED) pattern(length, offset + 2).copy(source.content, offset);
      const last = kind === 'base' ? base : await copy(await planFromAreas('delta', SIZE, CHANGED));
      options = { ...last, previous };
      places = [];
      await verifyFrom(undefined, (checked) => places.push(checked));
    });

    it('goes on at each place, reads nothing before it and comes to the same', async () => {
      expect(places.length).toBeGreaterThan(20);
      const { chunks } = await verifyFrom();
      for (const from of places) {
        const begun: unknown[] = [];
        const { readBack } = options;
        options.readBack = (at) => (begun.push(at), readBack(at));
        expect(await verifyFrom(from)).toMatchObject({ bytesChecked: TARGET_SIZE, chunks });
        expect(begun).toEqual([from.position]);
        options.readBack = readBack;
      }
    });

    it.each([
      ['nobody wrote to', MiB + 9],
      ['was copied', 5 * MiB + 9],
      ['ends the disk', TARGET_SIZE - 1],
    ])('finds a wrong byte behind it where it %s, and never passes one', async (_where, at) => {
      target.content[at] = (target.content[at] ?? 0) ^ 1;
      for (const from of places.filter(({ position }) => position <= at)) {
        const passed: number[] = [];
        const error = await mismatchOf(verifyFrom(from, ({ position }) => passed.push(position)));
        expect(error).toMatchObject(['VerificationMismatch', {}]);
        if (at !== 5 * MiB + 9) expect(passed.filter((position) => position > at)).toEqual([]);
      }
    });
  });
});

describe('verification of a large disk', () => {
  it('needs memory for one piece, not for the disk', async () => {
    const size = 4096 * MiB;
    const zeros = Buffer.alloc(MiB);
    const data = pattern(MiB);
    const plan = await planFromAreas('base', size, [{ offset: 2048 * MiB, length: MiB }]);
    const readBack = async function* () {
      for (let at = 0; at < size; at += MiB) yield await Promise.resolve(at === 2048 * MiB ? data : zeros);
    };
    const chain = await DigestChain.create();
    chain.add(2048 * MiB, data);
    const before = process.memoryUsage.rss();
    await verifyBase({ plan, chainDigest: chain.value, targetSizeBytes: size, readBack });
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * MiB);
  });
});
