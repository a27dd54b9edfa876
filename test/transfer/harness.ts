import { HEADROOM_BYTES, type BlockReader, type SegmentInfo, type SegmentSink } from '../../src/shared/blocks.js';
import { failure } from '../../src/shared/errors.js';
import type { Checkpoint, CheckpointStore, ReadBack } from '../../src/transfer/index.js';

export const KiB = 1024;
export const MiB = 1024 * KiB;

/** A source in memory. `beforeRead` may delay or fail a read. */
export class MemorySource {
  opened = 0;
  closed = 0;
  reads: [offset: number, length: number][] = [];
  beforeRead: (offset: number) => Promise<void> | void = () => undefined;
  readonly content: Buffer;

  constructor(content: Buffer) {
    this.content = content;
  }

  open = (): Promise<BlockReader> => {
    this.opened++;
    const { content } = this;
    return Promise.resolve({
      sizeBytes: content.length,
      read: async (offset, length, buffer) => {
        await this.beforeRead(offset);
        this.reads.push([offset, length]);
        content.copy(buffer, HEADROOM_BYTES, offset, offset + length);
      },
      close: async () => void this.closed++,
    });
  };
}

export function connectionLost(): Error {
  return failure('NbdConnectionLost', { what: 'Lost the connection.' });
}

/** One PUT as the receiver saw it. */
export interface Put {
  segment: SegmentInfo;
  chunks: [offset: number, length: number][];
  state: 'open' | 'finished' | 'aborted';
}

/** A target in memory that remembers what it was sent, and in which order relative to the checkpoints. */
export class MemoryTarget implements SegmentSink {
  puts: Put[] = [];
  readonly content: Buffer;
  beforeWrite: (offset: number) => Promise<void> | void = () => undefined;
  beforeFinish: (put: Put) => Promise<void> | void = () => undefined;
  /** The most that was under way at once: chunks, and their bytes. */
  readonly most = { chunks: 0, bytes: 0 };
  readonly #underWay = new Set<Buffer>();
  /** Of the waiting for writes, the network's share; undefined where nobody can tell. */
  linkShare: number | undefined;

  constructor(content: Buffer) {
    this.content = content;
  }

  open(segment: SegmentInfo) {
    const put: Put = { segment, chunks: [], state: 'open' };
    this.puts.push(put);
    return Promise.resolve({
      write: async (offset: number, payload: Buffer) => {
        // What a real writer does: the header goes in front of the payload at once, and the bytes leave later.
        Buffer.from(payload.buffer, payload.byteOffset - HEADROOM_BYTES, HEADROOM_BYTES).fill(0xee);
        put.chunks.push([offset, payload.length]);
        this.#underWay.add(payload);
        const bytes = [...this.#underWay].reduce((sum, { length }) => sum + length, 0);
        this.most.chunks = Math.max(this.most.chunks, this.#underWay.size);
        if (this.#underWay.size > 1) this.most.bytes = Math.max(this.most.bytes, bytes);
        try {
          await this.beforeWrite(offset);
        } finally {
          this.#underWay.delete(payload);
        }
        payload.copy(this.content, offset);
      },
      finish: async () => {
        await this.beforeFinish(put);
        put.state = 'finished';
      },
      abort: () => void (put.state = 'aborted'),
      linkShare: () => this.linkShare,
    });
  }

  readBack: ReadBack = async function* (this: MemoryTarget, from = 0) {
    // Odd pieces, as a TLS connection gives them.
    for (let at = from; at < this.content.length; at += 16_381) yield this.content.subarray(at, at + 16_381);
  }.bind(this);
}

/** Keeps every checkpoint ever saved. */
export class MemoryStore implements CheckpointStore {
  saved: Checkpoint[] = [];
  onSave: (checkpoint: Checkpoint) => void = () => undefined;

  get last(): Checkpoint {
    const last = this.saved.at(-1);
    if (last === undefined) throw new Error('no checkpoint was saved');
    return last;
  }
  load = () =>
    Promise.resolve(this.saved.length === 0 ? undefined : (JSON.parse(JSON.stringify(this.last)) as Checkpoint));
  save = (checkpoint: Checkpoint) => {
    this.onSave(checkpoint);
    this.saved.push(checkpoint);
    return Promise.resolve();
  };
}
