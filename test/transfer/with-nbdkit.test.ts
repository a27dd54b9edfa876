import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/index.js';
import { copyPass, planFromMap, planWholeDisk, type CopyPassOptions } from '../../src/transfer/index.js';
import { pattern, rawDisk, serve } from '../nbd/nbdkit.js';
import { KiB, MemoryStore, MemoryTarget, MiB } from './harness.js';

type Common = Pick<CopyPassOptions, 'pass' | 'snapshot' | 'checkpoints' | 'signal' | 'openReader'>;
function common(socketPath: string): Common {
  return {
    ...{ pass: 'base', snapshot: 's', checkpoints: new MemoryStore(), signal: new AbortController().signal },
    openReader: () => NbdClient.connect({ socketPath }),
  };
}

describe('copyPass from the real nbdkit', () => {
  it('[S6] reads what the map calls data, and the copy is equal', async () => {
    const data = pattern(300 * KiB);
    const content = Buffer.alloc(40 * MiB + 512);
    for (const at of [0, 5 * MiB + 4096, 39 * MiB]) data.copy(content, at);
    const path = await rawDisk(content.length, [
      [0, data],
      [5 * MiB + 4096, data],
      [39 * MiB, data],
    ]);
    const { socketPath } = await serve(['file', path]);
    const client = await NbdClient.connect({ socketPath });
    const plan = await planFromMap('base', client.sizeBytes, client.mapExtents());
    await client.close();
    const target = new MemoryTarget(Buffer.alloc(content.length));
    const result = await copyPass({ ...common(socketPath), plan, sink: target });
    expect(target.content.equals(content)).toBe(true);
    expect(result.bytesRead).toBeLessThanOrEqual(3 * (300 * KiB + 8 * KiB));
  });

  it('survives a source on which every fifth read fails', async () => {
    const content = pattern(48 * MiB);
    const { socketPath } = await serve(['file', await rawDisk(content.length, [[0, content]])], {
      filters: ['error'],
      extraArgs: ['error-pread=EIO', 'error-pread-rate=20%'],
    });
    const target = new MemoryTarget(Buffer.alloc(content.length));
    const plan = await planWholeDisk('base', content.length);
    const reconnect = { attempts: 30, firstDelayMs: 1 };
    const result = await copyPass({ ...common(socketPath), plan, sink: target, reconnect });
    expect(target.content.equals(content)).toBe(true);
    expect(target.puts.map((put) => put.state)).toEqual(['finished']);
    expect(result.chunks).toBe(24);
  });

  it('[S8] needs a few buffers for a disk of any size', async () => {
    const size = 1024 * MiB;
    const { socketPath } = await serve(['pattern', String(size)]);
    const plan = await planWholeDisk('base', size);
    let bytes = 0;
    const writer = {
      write: (_offset: number, payload: Buffer) => {
        bytes += payload.length;
        return new Promise<void>((resolve) => setImmediate(resolve));
      },
      finish: () => Promise.resolve(),
      abort: () => undefined,
    };
    const before = process.memoryUsage.rss();
    await copyPass({ ...common(socketPath), plan, sink: { open: () => Promise.resolve(writer) } });
    expect(bytes).toBe(size);
    expect(process.memoryUsage.rss() - before).toBeLessThan(96 * MiB);
  });
});
