import type { Range, RangeList } from './types.js';

/**
 * Sorted, disjoint and merged ranges, 16 bytes each. As objects a million of them take a hundred bytes each, and plans of
 * such disks are made while others are copied.
 */
export class PackedRanges implements RangeList {
  /** Start and end of each. */
  #bounds = new Float64Array(128);
  #length = 0;
  #isSorted = true;

  get length(): number {
    return this.#length;
  }

  /** Takes ranges in any order, at its best in ascending order; `sorted` afterwards. */
  add(start: number, end: number): void {
    const last = 2 * (this.#length - 1);
    const bounds = this.#bounds;
    if (last >= 0 && start >= (bounds[last] ?? 0) && start <= (bounds[last + 1] ?? 0)) {
      bounds[last + 1] = Math.max(end, bounds[last + 1] ?? 0);
      return;
    }
    this.#isSorted &&= last < 0 || start > (bounds[last] ?? 0);
    if (last + 4 > bounds.length) {
      this.#bounds = new Float64Array(2 * bounds.length);
      this.#bounds.set(bounds);
    }
    this.#bounds[last + 2] = start;
    this.#bounds[last + 3] = end;
    this.#length++;
  }

  sorted(): PackedRanges {
    if (this.#isSorted) return this;
    const startOf = (index: number) => this.#bounds[2 * index] ?? 0;
    const order = Uint32Array.from({ length: this.#length }, (_, index) => index);
    const sorted = new PackedRanges();
    for (const index of order.sort((a, b) => startOf(a) - startOf(b))) {
      sorted.add(startOf(index), this.#bounds[2 * index + 1] ?? 0);
    }
    return sorted;
  }

  at(index: number): Range | undefined {
    const place = 2 * (index < 0 ? index + this.#length : index);
    const offset = this.#bounds[place];
    if (offset === undefined || place >= 2 * this.#length) return undefined;
    return { offset, length: (this.#bounds[place + 1] ?? 0) - offset };
  }

  *[Symbol.iterator](): Generator<Range> {
    for (let index = 0, range = this.at(0); range !== undefined; range = this.at(++index)) yield range;
  }
}
