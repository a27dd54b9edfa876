import { open } from 'node:fs/promises';

const BLOCK_BYTES = 64 * 1024;
const READ_BLOCKS = 32;

/** Base64 of one bit per 64 KiB, most significant bit first: the blocks that differ between two files. */
export async function changedBlocks(olderPath: string, newerPath: string, sizeBytes: number): Promise<string> {
  const blocks = Math.ceil(sizeBytes / BLOCK_BYTES);
  const bitmap = Buffer.alloc(Math.ceil(blocks / 8));
  const [older, newer] = [await open(olderPath, 'r'), await open(newerPath, 'r')];
  const [a, b] = [Buffer.alloc(BLOCK_BYTES * READ_BLOCKS), Buffer.alloc(BLOCK_BYTES * READ_BLOCKS)];
  try {
    for (let first = 0; first < blocks; first += READ_BLOCKS) {
      a.fill(0);
      b.fill(0);
      await older.read(a, 0, a.length, first * BLOCK_BYTES);
      await newer.read(b, 0, b.length, first * BLOCK_BYTES);
      for (let block = first; block < Math.min(blocks, first + READ_BLOCKS); block += 1) {
        const at = (block - first) * BLOCK_BYTES;
        if (a.compare(b, at, at + BLOCK_BYTES, at, at + BLOCK_BYTES) !== 0) {
          bitmap[block >> 3] = (bitmap[block >> 3] ?? 0) | (0x80 >> (block & 7));
        }
      }
    }
  } finally {
    await older.close();
    await newer.close();
  }
  return bitmap.toString('base64');
}
