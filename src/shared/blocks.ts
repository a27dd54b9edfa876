/**
 * Bytes that every pooled block buffer keeps free in front of its payload.
 *
 * The NBD client reads a reply's 8-byte offset there, and afterwards the uploader puts the 12-byte header of a chunk
 * there, so that header and payload leave in one write and are never copied.
 */
export const HEADROOM_BYTES = 12;
/** Room behind the payload, where there is some, takes the header of the reply that follows: one read of the socket less. */
export const TAILROOM_BYTES = 20;

/** Reads blocks of one disk. `NbdClient` is one; so is the reader that reconnects. */
export interface BlockReader {
  /** Size of the disk as the server states it. */
  readonly sizeBytes: number;
  /** The disk as people know it, for error texts. */
  readonly subject?: string;
  /** What the server said about reads that failed, waiting a moment for it. */
  readonly complaint?: () => Promise<string | undefined>;
  /**
   * Reads `length` bytes at `offset` into `buffer`, from `HEADROOM_BYTES` on; what is around them in it is overwritten. Many reads may be in flight, each with a
   * buffer of its own; a buffer belongs to the reader until its promise settles.
   *
   * @throws NbdConnectionLost (retryable): the connection is of no more use, whatever its reads answered.
   */
  read(offset: number, length: number, buffer: Buffer): Promise<unknown>;
  /** Waits (bounded) for the reads in flight, then closes. May be called twice. */
  close(): Promise<void>;
}

/** What a sink is told about the segment it opens. */
export interface SegmentInfo {
  /** Number of the segment within this run, from 0. */
  index: number;
  /** Position along the plan, in planned bytes, of the first byte and of the end. */
  from: number;
  to: number;
  /** First address on the disk, and the address after the last one. */
  offset: number;
  endOffset: number;
}

/** One PUT. Every byte it was given is doubtful until `finish` has resolved. */
export interface SegmentWriter {
  /**
   * Sends one chunk, after those given before. The `HEADROOM_BYTES` bytes in front of `payload` in its memory are
   * overwritten at once: they must not belong to a chunk still under way. Resolves when the buffer may be used again.
   *
   * What waits while a chunk leaves goes together, copied into one piece: worth it for small chunks, and only for these.
   *
   * @throws ImportFailed or ImportDoubtful when the receiver has given up.
   */
  write(offset: number, payload: Buffer): Promise<void>;
  /**
   * Sends the end marker and waits until the receiver has acknowledged that everything is on disk.
   *
   * @throws ImportFailed when the receiver says so, ImportDoubtful when it cannot be known.
   */
  finish(): Promise<void>;
  /** Share of the waiting for `write` that is the network's just now, 0 to 1, as far as it is known. */
  linkShare?(): number | undefined;
  /** Bytes per second that the network to the receiver was seen to carry, as far as it is known. */
  linkBytesPerSecond?(): number | undefined;
  /** Cuts the connection. What was being written is then doubtful. Never throws. */
  abort(): void;
}

export interface SegmentSink {
  /** Opens the next segment. Nothing has been written when it rejects. The signal ends the opening only. */
  open(segment: SegmentInfo, signal: AbortSignal): Promise<SegmentWriter>;
}
