import { failure } from '../shared/errors.js';
import { counted } from '../shared/format.js';
import type { Range } from './types.js';

const SECTOR_BYTES = 512;
/** Each that fails costs a connection, and with vddk a login. One bad sector in 2 MiB takes 25, a bad block of 4 KiB 33. */
const MOST_READS = 64;

/**
 * Halves a range that cannot be read as a whole until what fails is single sectors, or the reads are used up.
 *
 * @param tryRead Reads a part once and says whether it came.
 * @returns What did not come in two tries: sorted, disjoint, touching ones merged. Empty when all of it came in pieces.
 */
export async function findUnreadable(
  tryRead: (part: Range) => Promise<boolean>,
  { offset, length }: Range,
): Promise<Range[]> {
  let reads = 0;
  const sectors: Range[] = [];
  // First in, first out: all of one size before any that is smaller.
  const doubted: Range[] = [{ offset, length }];
  while (doubted.length > 0 && reads + 2 <= MOST_READS) {
    const part = doubted.shift() as Range;
    if (part.length <= SECTOR_BYTES) {
      sectors.push(part);
      continue;
    }
    const half = Math.ceil(part.length / 2 / SECTOR_BYTES) * SECTOR_BYTES;
    for (const piece of [
      { offset: part.offset, length: half },
      { offset: part.offset + half, length: part.length - half },
    ]) {
      reads++;
      if (!(await tryRead(piece))) doubted.push(piece);
    }
  }
  const found: Range[] = [];
  for (const part of merged([...sectors, ...doubted])) {
    // A connection lost at the wrong moment looks the same.
    if (!(await tryRead(part))) found.push(part);
  }
  return found;
}

/** Sorted; parts that touch become one. */
export function merged(parts: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const { offset, length } of parts.toSorted((a, b) => a.offset - b.offset)) {
    const last = result.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else result.push({ offset, length });
  }
  return result;
}

/** @param said The source's own words. */
export function unreadableFailure(disk: string, ranges: Range[], said: string | undefined, cause: unknown): Error {
  const sectors = ranges.reduce((sum, { length }) => sum + length, 0) / SECTOR_BYTES;
  const where = ranges.map(({ offset, length }) => {
    const end = offset + length;
    return `LBA ${offset / SECTOR_BYTES}-${end / SECTOR_BYTES - 1} (bytes ${offset}-${end - 1})`;
  });
  return failure(
    'SectorsUnreadable',
    {
      what: `${disk}: ${counted(sectors, 'sector')} cannot be read: ${where.join(', ')}.`,
      why: `They fail on new connections too, while others can be read${said === undefined ? '' : `; nbdkit said: "${said}"`}.`,
      next: "look for damaged storage in the ESXi host's log, and mend the disk there; then `retry`, which finds others, if there are more. Nothing was written in their place.",
    },
    { unreadable: ranges },
    cause,
  );
}
