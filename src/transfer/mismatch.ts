import { failure } from '../shared/errors.js';
import type { Range } from './types.js';

/** Differences are told in blocks of this size: no target writes finer than that. */
const BLOCK_BYTES = 4096;
/** More places than that are no accident that is mended place by place. */
const MOST_EXTENTS = 256;

/** Where a target was found to differ from its source, in ascending order. */
export class Differences {
  /** Differing blocks, merged. */
  readonly extents: Range[] = [];
  #first: { offset: number; how: string } | undefined;

  /** False when it is not worth looking further. */
  get isBounded(): boolean {
    return this.extents.length <= MOST_EXTENTS;
  }

  get count(): number {
    return this.extents.length;
  }

  /** Compares two pieces of the same length that lie at `offset`, and keeps the blocks that differ. */
  compare(offset: number, expected: Buffer, found: Buffer, how: string): void {
    if (expected.equals(found)) return;
    for (let at = 0; at < found.length;) {
      const length = Math.min(found.length - at, BLOCK_BYTES - ((offset + at) % BLOCK_BYTES));
      const [a, b] = [expected.subarray(at, at + length), found.subarray(at, at + length)];
      if (!a.equals(b)) this.#add(offset + at, length, offset + at + firstDifference(a, b), how);
      at += length;
    }
  }

  #add(offset: number, length: number, exact: number, how: string): void {
    this.#first ??= { offset: exact, how };
    const last = this.extents.at(-1);
    // A stream gives a block in pieces; both add it.
    const from = offset - (offset % BLOCK_BYTES);
    const to = Math.ceil((offset + length) / BLOCK_BYTES) * BLOCK_BYTES;
    if (last !== undefined && from <= last.offset + last.length && from >= last.offset) {
      last.length = Math.max(last.length, to - last.offset);
    } else this.extents.push({ offset: from, length: to - from });
  }

  /** The failure that names the first place, with all of them in its details where they are few enough to be sent again. */
  failure(): Error {
    this.extents.sort((a, b) => a.offset - b.offset);
    const { offset, how } = this.#first ?? { offset: 0, how: 'differs' };
    const extent = this.extents.find((one) => one.offset <= offset && offset < one.offset + one.length);
    const length = extent === undefined ? 0 : extent.offset + extent.length - offset;
    return mismatch(offset, length, how, this.isBounded ? this.extents : undefined);
  }
}

/** @param extents What to send again; absent when the place is not known. */
export function mismatch(offset: number, length: number, how: string, extents?: Range[]): Error {
  return failure(
    'VerificationMismatch',
    {
      what: `The target differs from the source: byte ${offset} ${how}.`,
      next: 'keep the source as it is and copy this disk in full to a new target disk.',
    },
    { offset, length, ...(extents && { extents }) },
  );
}

function firstDifference(a: Buffer, b: Buffer): number {
  let low = 0;
  for (let size = Math.min(a.length, b.length); size > 1;) {
    const half = size >> 1;
    const equal = a.compare(b, low, low + half, low, low + half) === 0;
    if (equal) low += half;
    size = equal ? size - half : half;
  }
  return low;
}
