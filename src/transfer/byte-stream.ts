/** Hands out a stream in pieces that never pass a given length, without copying. */
export class ByteStream {
  readonly #iterator: AsyncIterator<Buffer>;
  #piece: Buffer = Buffer.alloc(0);
  /** Of the next byte. */
  position: number;

  constructor(stream: AsyncIterable<Buffer>, position = 0) {
    this.#iterator = stream[Symbol.asyncIterator]();
    this.position = position;
  }

  /** 1 to `max` next bytes; undefined at the end. They stay valid until the next call. */
  async take(max: number): Promise<Buffer | undefined> {
    while (this.#piece.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) return undefined;
      this.#piece = next.value;
    }
    const taken = this.#piece.subarray(0, max);
    this.#piece = this.#piece.subarray(taken.length);
    this.position += taken.length;
    return taken;
  }

  /** Ends the stream early; the source closes its connection. */
  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}
