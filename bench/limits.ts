import type { SegmentWriter } from '../src/shared/blocks.js';
import { Throttle } from '../src/transfer/index.js';

const MIB = 2 ** 20;
/** Chunks that were let go before a change of the limit, and the moment until it is heard. */
const HEARD_BYTES = 8 * MIB;

interface Moment {
  at: number;
  /** That have left. */
  bytes: number;
}

/** A limit for all disks together that is changed each time an equal share of the bytes has left, and how well it was kept. */
export class Limits {
  readonly throttle: Throttle;
  readonly #asked: number[];
  readonly #bytes: number;
  /** Of each part, the moments between which it is measured. */
  readonly #parts: { from?: Moment; to?: Moment }[];
  #moved = 0;

  constructor(mibPerSecond: number[], bytes: number) {
    this.#asked = mibPerSecond;
    this.#bytes = bytes;
    this.#parts = mibPerSecond.map(() => ({}));
    this.throttle = new Throttle(() => (this.#asked[this.#part] ?? 0) * MIB);
  }

  /** The writer, looked over its shoulder. The disks are full, so what is written is what was read. */
  watching(writer: SegmentWriter): SegmentWriter {
    return {
      write: async (offset, payload) => {
        const { length } = payload;
        await writer.write(offset, payload);
        this.#moved += length;
        this.#mark({ at: performance.now(), bytes: this.#moved });
      },
      finish: () => writer.finish(),
      abort: () => writer.abort(),
    };
  }

  /** Measured over asked, part by part. */
  held(): number[] {
    return this.#parts.map(({ from, to }, part) => {
      if (from === undefined || to === undefined) throw new Error('a limit was over before it was measured');
      return (1000 * (to.bytes - from.bytes)) / (to.at - from.at) / MIB / (this.#asked[part] ?? 0);
    });
  }

  #mark(now: Moment): void {
    const each = this.#bytes / this.#asked.length;
    for (const [index, part] of this.#parts.entries()) {
      if (now.bytes >= index * each + HEARD_BYTES) part.from ??= now;
      if (now.bytes >= (index + 1) * each) part.to ??= now;
    }
  }

  get #part(): number {
    const count = this.#asked.length;
    return Math.min(count - 1, Math.floor((count * this.#moved) / this.#bytes));
  }
}
