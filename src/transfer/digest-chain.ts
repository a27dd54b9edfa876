import { createHasher, type Hasher } from './blake3.js';

/** Value of a chain to which nothing has been added. */
export const EMPTY_CHAIN = '0'.repeat(64);

/** What the pump needs of a chain. */
export type Chain = Pick<DigestChain, 'value' | 'chunks' | 'add'>;

/**
 * The digest of a pass (R21): c_i = BLAKE3(offset, length, bytes) of the i-th chunk, d_i = BLAKE3(d_i-1, c_i). Offset and
 * length are unsigned 64-bit little-endian.
 *
 * The unit is the chunk, which the plan alone decides, and not the PUT: a PUT may end early for a pause, yet the read-back
 * comes to the same value. The chain can go on from any chunk boundary with nothing but `value` and `chunks`.
 */
export class DigestChain {
  #value: Buffer;
  chunks: number;
  readonly #hasher: Hasher;
  readonly #head = Buffer.alloc(16);

  private constructor(hasher: Hasher, value: string, chunks: number) {
    this.#hasher = hasher;
    this.#value = Buffer.from(value, 'hex');
    this.chunks = chunks;
  }

  static async create(value = EMPTY_CHAIN, chunks = 0): Promise<DigestChain> {
    return new DigestChain(await createHasher(), value, chunks);
  }

  get value(): string {
    return this.#value.toString('hex');
  }

  /** Chunks come in ascending order: `begin`, then all their bytes, then `end`. */
  begin(offset: number, length: number): void {
    this.#head.writeBigUInt64LE(BigInt(offset), 0);
    this.#head.writeBigUInt64LE(BigInt(length), 8);
    this.#hasher.update(this.#head);
  }

  update(bytes: Uint8Array): void {
    this.#hasher.update(bytes);
  }

  end(): void {
    const chunk = this.#hasher.digest();
    this.#hasher.update(this.#value);
    this.#hasher.update(chunk);
    this.#value = this.#hasher.digest();
    this.chunks++;
  }

  add(offset: number, bytes: Uint8Array): void {
    this.begin(offset, bytes.length);
    this.update(bytes);
    this.end();
  }
}
