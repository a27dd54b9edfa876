import { createCipheriv, createHash } from 'node:crypto';
import { open, writeFile } from 'node:fs/promises';

const KiB = 1024;
const PIECE = 1024 * KiB;

export interface DiskSpec {
  virtualBytes: number;
  /** Bytes allocated. Absent: all of it. */
  scatteredBytes?: number;
  /** Smallest and largest extent, multiples of 64 KiB. */
  extentBytes?: [least: number, most: number];
  /** Every second MiB is allocated and holds only zeroes. */
  halfZero?: boolean;
  /** Bytes of areas, scattered likewise, that a delta of this disk covers. */
  changedBytes?: number;
}

export interface Disk {
  path: string;
  virtualBytes: number;
  /** `offset length` lines of the areas that changed. */
  areasFile: string;
  /** What a base pass has to read, and what a delta has to. */
  allocatedBytes: number;
  changedBytes: number;
}

type Extent = [offset: number, length: number];

/** Makes a sparse raw disk of bytes that do not compress; the same for the same spec. */
export async function makeDisk(path: string, spec: DiskSpec): Promise<Disk> {
  const { virtualBytes, scatteredBytes, extentBytes = [64 * KiB, PIECE], halfZero = false } = spec;
  const extents: Extent[] =
    scatteredBytes === undefined ? [[0, virtualBytes]] : scatter(virtualBytes, scatteredBytes, extentBytes, 'extents');
  const random = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16));
  const zeros = Buffer.alloc(PIECE);
  const file = await open(path, 'w', 0o600);
  try {
    await file.truncate(virtualBytes);
    for (const [offset, length] of extents) {
      for (let at = 0; at < length; at += PIECE) {
        const piece = zeros.subarray(0, Math.min(PIECE, length - at));
        const isZero = halfZero && (at / PIECE) % 2 === 1;
        await file.write(isZero ? piece : random.update(piece), 0, piece.length, offset + at);
      }
    }
  } finally {
    await file.close();
  }
  const changed =
    spec.changedBytes === undefined ? [] : scatter(virtualBytes, spec.changedBytes, [64 * KiB, PIECE], 'areas');
  const areasFile = `${path}.areas`;
  await writeFile(areasFile, changed.map(([offset, length]) => `${offset} ${length}\n`).join(''));
  return { path, virtualBytes, areasFile, allocatedBytes: sum(extents), changedBytes: sum(changed) };
}

/** Extents of a size between the two, at random places on multiples of 64 KiB, that never touch the same `most`-sized slot. */
function scatter(virtualBytes: number, wantedBytes: number, [least, most]: [number, number], seed: string): Extent[] {
  const unit = 64 * KiB;
  const random = randomNumbers(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const used = new Set<number>();
  const extents: Extent[] = [];
  for (let total = 0; total < wantedBytes;) {
    const slot = below(Math.floor(virtualBytes / most));
    if (used.has(slot)) continue;
    used.add(slot);
    const length = Math.min(least + below((most - least) / unit + 1) * unit, wantedBytes - total);
    extents.push([slot * most + below((most - length) / unit + 1) * unit, length]);
    total += length;
  }
  return extents.sort((a, b) => a[0] - b[0]);
}

/** Numbers from 0 up to 1, the same for the same seed. */
function randomNumbers(seed: string): () => number {
  const cipher = createCipheriv('aes-128-ctr', createHash('md5').update(seed).digest(), Buffer.alloc(16));
  const zeros = Buffer.alloc(8);
  return () => Number(cipher.update(zeros).readBigUInt64LE() >> 11n) / 2 ** 53;
}

function sum(extents: Extent[]): number {
  return extents.reduce((total, [, length]) => total + length, 0);
}
