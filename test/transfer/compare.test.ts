import { describe, expect, it } from 'vitest';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { compareDisks, type Comparison } from '../../src/transfer/index.js';
import { connectionLost, KiB, MemorySource, MiB } from './harness.js';

const SIZE = 6 * MiB + 512;
const BLOCK = 64 * KiB;

const pieces = (held: Buffer) =>
  async function* (from = 0) {
    for (let at = from; at < held.length; at += 16_381) yield held.subarray(at, at + 16_381);
  };
const signal = new AbortController().signal;
const begun = (): Comparison => ({ position: 0, ranges: [] });

describe('compareDisks', () => {
  it('finds blocks that differ, joins those that touch, and looks at nothing beyond the source', async () => {
    const source = new MemorySource(Buffer.alloc(SIZE, 7));
    const target = Buffer.alloc(SIZE + MiB, 7);
    target.fill(0, SIZE);
    target[3 * BLOCK] = 1;
    target[5 * BLOCK - 1] = 1;
    target[SIZE - 1] = 1;
    const comparison = begun();
    const options = { comparison, virtualSizeBytes: SIZE, openReader: source.open, readTarget: pieces(target), signal };
    const expected = [
      { offset: 3 * BLOCK, length: 2 * BLOCK },
      { offset: 96 * BLOCK, length: 512 },
    ];
    expect(await compareDisks(options)).toEqual(expected);
    // What is known is not read again.
    const { length } = source.reads;
    expect(await compareDisks(options)).toEqual(expected);
    expect(source.reads).toHaveLength(length);
  });

  it('goes on where it was stopped, on a source whose connections break', async () => {
    const source = new MemorySource(Buffer.alloc(SIZE, 7));
    const target = Buffer.alloc(SIZE, 7);
    for (const offset of [0, 3 * MiB, 5 * MiB]) target[offset] = 1;
    const stop = new AbortController();
    const comparison = begun();
    const options = {
      comparison,
      virtualSizeBytes: SIZE,
      openReader: source.open,
      readTarget: async function* (from = 0) {
        for await (const piece of pieces(target)(from)) {
          if (comparison.position >= 2 * MiB) stop.abort(new Error('paused'));
          yield piece;
        }
      },
      signal: stop.signal,
      reconnect: { firstDelayMs: 1 },
    };
    await expect(compareDisks(options)).rejects.toThrow('paused');
    expect(comparison).toEqual({ position: 2 * MiB, ranges: [{ offset: 0, length: BLOCK }] });

    source.reads = [];
    let broken = 0;
    source.beforeRead = () => {
      if (broken++ === 1) throw connectionLost();
    };
    const ranges = await compareDisks({ ...options, readTarget: pieces(target), signal });
    expect(ranges.map(({ offset }) => offset)).toEqual([0, 3 * MiB, 5 * MiB]);
    expect(Math.min(...source.reads.map(([offset]) => offset))).toBe(2 * MiB);
  });

  it('tells differences of a disk of 62 TiB in larger blocks', async () => {
    const virtualSizeBytes = 62 * 1024 ** 4;
    const from = virtualSizeBytes - 4 * MiB;
    const ranges = await compareDisks({
      comparison: { position: from, ranges: [] },
      virtualSizeBytes,
      openReader: async () => ({
        sizeBytes: virtualSizeBytes,
        read: async (_offset, length, buffer) => void buffer.fill(0, HEADROOM_BYTES, HEADROOM_BYTES + length),
        close: async () => undefined,
      }),
      readTarget: async function* () {
        yield Buffer.alloc(3 * MiB);
        yield Buffer.alloc(MiB, 1);
      },
      signal,
    });
    expect(ranges).toEqual([{ offset: virtualSizeBytes - 64 * MiB, length: 64 * MiB }]);
  });

  it('is not content with a target that ends too early', async () => {
    const source = new MemorySource(Buffer.alloc(SIZE, 7));
    const target = Buffer.alloc(SIZE - 512, 7);
    const options = { comparison: begun(), virtualSizeBytes: SIZE, openReader: source.open, signal };
    await expect(compareDisks({ ...options, readTarget: pieces(target) })).rejects.toThrow('before the source');
  });
});
