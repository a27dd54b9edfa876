import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/index.js';
import { HEADROOM_BYTES, type SegmentSink } from '../../src/shared/blocks.js';
import { copyPass, planFromMap, planWholeDisk, verifyBase, verifyRanges, type Plan } from '../../src/transfer/index.js';
import { nextSegment } from '../../src/transfer/plan.js';
import { serve } from '../nbd/nbdkit.js';
import { KiB, MemoryStore, MiB } from './harness.js';

const GiB = 1024 * MiB;
const TiB = 1024 * GiB;
const VHD_LIMIT = 2040 * GiB;
const QCOW2_LIMIT = 16_381 * GiB;

/** Counts, and keeps the first byte of each sector it was sent by address: enough to know what went where. */
class CountingSink implements SegmentSink {
  bytes = 0;
  puts = 0;
  readonly sent: { offset: number; length: number; first: number }[] = [];

  open() {
    this.puts += 1;
    return Promise.resolve({
      write: (offset: number, payload: Buffer) => {
        this.bytes += payload.length;
        this.sent.push({ offset, length: payload.length, first: payload[0] ?? 0 });
        return Promise.resolve();
      },
      finish: () => Promise.resolve(),
      abort: () => undefined,
    });
  }
}

const common = () => ({
  ...{ pass: 'base', snapshot: 's', checkpoints: new MemoryStore(), signal: new AbortController().signal },
});

/** A disk served by the real nbdkit, of which three sectors are written: the first, one in the middle, the last. */
async function sparse(size: number): Promise<{ open: () => Promise<NbdClient>; written: number[] }> {
  const middle = Math.floor(size / 1024) * 512;
  const written = [...new Set([0, middle === size ? 0 : middle, size - 512])].sort((a, b) => a - b);
  const data = written.map((at, index) => `@${at} ${index + 1}*512`).join(' ');
  const { socketPath } = await serve(['data', `data=${data}`, `size=${size}`]);
  return { open: () => NbdClient.connect({ socketPath }), written };
}

async function planOf(open: () => Promise<NbdClient>): Promise<Plan> {
  const client = await open();
  try {
    return await planFromMap('base', client.sizeBytes, client.mapExtents());
  } finally {
    await client.close();
  }
}

/** Memory that is in use and no garbage. */
function keptBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** So many blocks, evenly over the largest disk. */
async function scattered(count: number): Promise<{ plan: Plan; step: number }> {
  const step = Math.floor(QCOW2_LIMIT / count / 4096) * 4096;
  const map = async function* () {
    for (let index = 0; index < count; index++) {
      if (index === 0) await Promise.resolve();
      yield { offset: index * step, length: 4096, kind: 'data' as const };
    }
  };
  return { plan: await planFromMap('base', QCOW2_LIMIT, map()), step };
}

describe('[S9] a disk of any size', () => {
  it.each([
    ['one sector', 512],
    ['three sectors', 1536],
    ['a block and a sector', 4096 + 512],
    ['a sector less than a chunk', 2 * MiB - 512],
    ['a sector more than a chunk', 2 * MiB + 512],
    ['an odd number of sectors', 977 * 512],
    ['a sector more than a window of the map', GiB + 512],
    ['more than 32 bits of bytes', 4 * GiB + 512],
    ['the most that VHD holds', VHD_LIMIT],
    ['a sector more than 2 TiB of sectors', 2 * TiB + 512],
    ['the most that an SR can hold', QCOW2_LIMIT],
  ])('of %s is copied to its last sector', async (_name, size) => {
    const { open, written } = await sparse(size);
    const plan = await planOf(open);
    expect(plan.virtualSizeBytes).toBe(size);
    const sink = new CountingSink();
    const result = await copyPass({ ...common(), plan, sink, openReader: open });
    const last = sink.sent.at(-1);
    expect((last?.offset ?? 0) + (last?.length ?? 0)).toBe(size);
    for (const at of written)
      expect(sink.sent.some((one) => one.offset <= at && at < one.offset + one.length)).toBe(true);
    expect(sink.bytes).toBe(result.bytesSent);
    // nbdkit's data plugin keeps pages of 32 KiB.
    expect(sink.bytes).toBeLessThanOrEqual(written.length * 64 * KiB);
    // The same server as a target, read by range: what was planned, and all or a unit of the rest.
    const target = { plan, chainDigest: result.chainDigest, targetSizeBytes: size, openTarget: open, seed: 1 };
    if (size < 64 * MiB) expect((await verifyRanges({ ...target, share: 1 })).detection).toBe(1);
    else expect((await verifyRanges({ ...target, share: 1e-9 })).bytesChecked).toBeGreaterThan(plan.plannedBytes);
  });

  it('keeps its rounded-up tail zero, and a byte there is found', async () => {
    const size = 977 * 512;
    const target = Buffer.alloc(2 * MiB);
    const { open } = await sparse(size);
    const plan = await planOf(open);
    const sink: SegmentSink = {
      open: () =>
        Promise.resolve({
          write: (offset: number, payload: Buffer) => Promise.resolve(void payload.copy(target, offset)),
          finish: () => Promise.resolve(),
          abort: () => undefined,
        }),
    };
    const { chainDigest } = await copyPass({ ...common(), plan, sink, openReader: open });
    const readBack = async function* () {
      yield await Promise.resolve(target);
    };
    const options = { plan, chainDigest, targetSizeBytes: target.length, readBack };
    expect((await verifyBase(options)).bytesChecked).toBe(2 * MiB);
    expect(target.subarray(size).every((byte) => byte === 0)).toBe(true);
    target[size] = 1;
    await expect(verifyBase(options)).rejects.toThrow(`byte ${size} is not zero`);
  });
});

describe('any number of extents', () => {
  it.each([
    ['one', 1],
    ['twenty thousand', 20_000],
  ])('%s are sent each to its place', async (_name, count) => {
    const { plan, step } = await scattered(count);
    let next = 0;
    let wrong = 0;
    const sink: SegmentSink = {
      open: () =>
        Promise.resolve({
          write: (offset: number, payload: Buffer) => {
            if (offset !== next * step || payload.readDoubleLE(0) !== offset + 1) wrong += 1;
            next += 1;
            return Promise.resolve();
          },
          finish: () => Promise.resolve(),
          abort: () => undefined,
        }),
    };
    const openReader = () =>
      Promise.resolve({
        sizeBytes: QCOW2_LIMIT,
        read: (offset: number, _length: number, buffer: Buffer) => {
          buffer.writeDoubleLE(offset + 1, HEADROOM_BYTES);
          return Promise.resolve();
        },
        close: () => Promise.resolve(),
      });
    const result = await copyPass({ ...common(), plan, sink, openReader });
    expect([next, wrong, result.chunks]).toEqual([count, 0, count]);
  });

  it('a million are planned and cut into segments that leave out none and end where the disk does', async () => {
    const count = 1_000_000;
    const before = keptBytes();
    const { plan, step } = await scattered(count);
    // As objects they were 80 MiB, and 280 on the way there.
    expect(keptBytes() - before).toBeLessThan(40 * MiB);
    expect([plan.ranges.length, plan.plannedBytes]).toEqual([count, count * 4096]);
    const ends: number[] = [];
    for (let from = 0; from < plan.plannedBytes;) {
      const segment = nextSegment(plan, from, { maxBytes: GiB });
      expect(segment.offset).toBe((from / 4096) * step);
      ends.push((from = segment.to));
    }
    expect(ends).toEqual([GiB, 2 * GiB, 3 * GiB, count * 4096]);
  });

  it('in runs at random places are read from nbdkit and nothing else', async () => {
    const { socketPath } = await serve([
      'sparse-random',
      `size=${64 * GiB}`,
      'seed=7',
      'percent=0.1',
      'runlength=65536',
    ]);
    const open = () => NbdClient.connect({ socketPath });
    const plan = await planOf(open);
    expect(plan.ranges.length).toBeGreaterThan(200);
    const sink = new CountingSink();
    const { chainDigest, bytesRead } = await copyPass({ ...common(), plan, sink, openReader: open });
    expect(bytesRead).toBe(plan.plannedBytes);
    expect(bytesRead).toBeLessThan(GiB);
    const again = { plan, chainDigest, targetSizeBytes: 64 * GiB, openTarget: open, share: 0, seed: 1 };
    expect((await verifyRanges(again)).bytesChecked).toBe(plan.plannedBytes);
  });

  it('none: a whole disk without a map is read in chunks', async () => {
    expect([...(await planWholeDisk('base', 977 * 512)).ranges]).toEqual([{ offset: 0, length: 977 * 512 }]);
  });
});
