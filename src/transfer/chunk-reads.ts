import { HEADROOM_BYTES, type BlockReader } from '../shared/blocks.js';
import { ChunkCursor, type Chunk } from './plan.js';
import { CHUNK_BYTES, type Plan } from './types.js';

const READS_AHEAD = 4;

/** The plan's chunks with their bytes, in ascending order, read four ahead. A payload stays valid until the next one. */
export async function* chunkReads(
  reader: Pick<BlockReader, 'read'>,
  plan: Pick<Plan, 'ranges'>,
): AsyncGenerator<{ chunk: Chunk; payload: Buffer }> {
  const cursor = new ChunkCursor(plan);
  const free: Buffer[] = Array.from({ length: READS_AHEAD + 1 }, () =>
    Buffer.allocUnsafeSlow(HEADROOM_BYTES + CHUNK_BYTES),
  );
  const ahead: { chunk: Chunk; buffer: Buffer; ready: Promise<unknown> }[] = [];
  const fill = () => {
    while (free.length > 0) {
      const chunk = cursor.next();
      if (chunk === undefined) return;
      const buffer = free.pop() as Buffer;
      const ready = reader.read(chunk.offset, chunk.length, buffer);
      ready.catch(() => undefined);
      ahead.push({ chunk, buffer, ready });
    }
  };
  fill();
  for (let head = ahead.shift(); head !== undefined; head = ahead.shift()) {
    await head.ready;
    yield { chunk: head.chunk, payload: head.buffer.subarray(HEADROOM_BYTES, HEADROOM_BYTES + head.chunk.length) };
    free.push(head.buffer);
    fill();
  }
}
