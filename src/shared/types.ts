/** One contiguous part of a disk: from `offset` up to, not including, `offset + length`. */
export interface Range {
  /** First byte, counted from the start of the virtual disk. Multiple of 512. */
  offset: number;
  /** Bytes covered. Greater than 0, multiple of 512. */
  length: number;
}

export interface Extent extends Range {
  /** `data` is read and written; `zero` is known to read as zeroes. */
  kind: 'data' | 'zero';
}
