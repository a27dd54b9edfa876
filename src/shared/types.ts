/** One contiguous byte range of a disk: from `offset` up to, not including, `offset + length`. */
export interface Extent {
  /** First byte, counted from the start of the virtual disk. Multiple of 512. */
  offset: number;
  /** Bytes covered. Greater than 0, multiple of 512. */
  length: number;
  /** `data` is read and written; `zero` is known to read as zeroes. */
  kind: 'data' | 'zero';
}
